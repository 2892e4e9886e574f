// SPDX-License-Identifier: Apache-2.0
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { build, type Plugin } from "esbuild";

const ROOT = join(import.meta.dirname, "../../../..");

/** Modules whose effects get fault points, and what stands in for them. */
const FAULTY: Readonly<Record<string, string>> = {
  "src/cni/records/record-store.ts": "faulty-record-store.ts",
  "src/kube/client.ts": "faulty-kube-client.ts",
  "src/netlink/worker.ts": "faulty-kernel.ts",
  "src/netlink/kernel.ts": "faulty-kernel.ts",
  "src/netlink/conn.ts": "faulty-conn.ts",
};

/** Puts the stand-ins where the real modules are imported, everywhere but in the stand-ins themselves. */
const withFaultPoints: Plugin = {
  name: "fault-points",
  setup(bundler) {
    bundler.onResolve({ filter: /^\..*\.ts$/ }, ({ path, resolveDir, importer }) => {
      const standIn = FAULTY[relative(ROOT, join(resolveDir, path))];
      // The agent's threads get the direct kernel as it is: the points are in the calls of the main thread.
      const isThread = importer.endsWith("/worker-host.ts");
      if (standIn === undefined || isThread || importer.startsWith(import.meta.dirname)) return undefined;
      return { path: join(import.meta.dirname, standIn) };
    });
  },
};

/** Bundles the real entry points with fault points in them into a folder: agent.mjs, standalone.mjs, api-server.mjs. */
export async function buildFaulty(outdir: string): Promise<void> {
  // One that was moved would lose its fault points without a word.
  const missing = Object.keys(FAULTY).filter((path) => !existsSync(join(ROOT, path)));
  if (missing.length > 0) throw new Error(`${missing.join(", ")}: no such file, so its effects have no fault points`);
  await build({
    absWorkingDir: ROOT,
    entryPoints: {
      agent: "src/main/agent.ts",
      "kernel-worker": "src/main/kernel-worker.ts",
      standalone: "src/main/standalone.ts",
      "api-server": join(import.meta.dirname, "api-server.ts"),
    },
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node26",
    logLevel: "warning",
    plugins: [withFaultPoints],
    // Bundled CommonJS packages call require() for Node's own modules, which an ES module does not have.
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
  });
}
