// SPDX-License-Identifier: Apache-2.0
import { defineConfig, type ViteUserConfig } from "vitest/config";

const execArgv = ["--disable-warning=ExperimentalWarning"];

/**
 * Two kinds of test: `unit` (beside the source, needs nothing) and the levels under test/, which need root or a user
 * namespace; `vm` is for the virtual machine of test/vm. Levels run one file at a time, since they change the network of one machine.
 */
const config: ViteUserConfig = defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "test/arch/**/*.test.ts", "scripts/**/*.test.ts"],
          execArgv,
          // Two hundred files share their modules: loading these anew for each took two thirds of the time. A unit test
          // changes no module's state.
          isolate: false,
        },
      },
      ...["netns", "conformance", "e2e", "vm", "skew"].map((name) => ({
        test: {
          name,
          include: [`test/${name}/**/*.test.ts`],
          execArgv,
          pool: "forks" as const,
          maxWorkers: 2,
          // A machine whose processor is emulated takes ten times as long.
          testTimeout: name === "vm" ? 600_000 : 60_000,
          hookTimeout: name === "vm" ? 600_000 : 120_000,
        },
      })),
    ],
  },
});

export default config;
