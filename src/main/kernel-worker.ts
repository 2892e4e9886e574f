// SPDX-License-Identifier: Apache-2.0
import { parentPort } from "node:worker_threads";
import { InvariantError } from "../lib/errors.ts";
import { serveKernel } from "../netlink/worker-host.ts";

if (parentPort === null) throw new InvariantError("kernel-worker runs as a worker thread of the agent, not by itself");
serveKernel(parentPort);
