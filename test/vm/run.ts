// SPDX-License-Identifier: Apache-2.0
// Runs the tests that need a kernel with IP-in-IP, in a virtual machine with Debian's: `npm run test:vm`. Where there can be
// no such machine it says so, and ends with 3: nothing was tested.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { findKernel } from "./kernel.ts";
import { runInMachine } from "./machine.ts";
import { NotRunError } from "./not-run.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const TIMEOUT_MS = 1_800_000;
const NOT_RUN = 3;

/** Nobody loads them by themselves in this machine: crc32c is asked for by a name that busybox does not know. */
const MODULES = [
  ...["crc32c_generic", "ipip", "veth", "vxlan", "nf_tables", "nft_ct", "nft_chain_nat", "nft_nat", "nft_masq"],
  ...["nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6"],
];

const script = `
cd ${ROOT}
node_modules/.bin/vitest run --project vm
node_modules/.bin/vitest run --project netns test/netns/tunnel-dataplane.test.ts`;

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

try {
  const kernel = findKernel(join(ROOT, ".cache/vm"));
  process.stdout.write(`test:vm: a virtual machine with kernel ${kernel.version}; it takes a minute or two\n`);
  const onLine = (line: string): void => void process.stdout.write(`${line}\n`);
  process.exitCode = await runInMachine({ kernel, modules: MODULES, script, timeoutMs: TIMEOUT_MS, onLine });
  process.stdout.write(`test:vm: ${process.exitCode === 0 ? "passed" : "FAILED"}\n`);
} catch (error) {
  if (!(error instanceof NotRunError)) throw error;
  process.stdout.write(`test:vm: NOT RUN, so IP-in-IP is not tested on this machine: ${error.message}\n`);
  process.exitCode = NOT_RUN;
}
