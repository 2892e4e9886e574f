// SPDX-License-Identifier: Apache-2.0
import { routeDataplaneContract } from "../../src/felix/route-dataplane.contract.ts";
import { openRouteNamespace } from "./route-namespace.ts";

routeDataplaneContract("kernel", async () => openRouteNamespace());
