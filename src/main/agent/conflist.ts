// SPDX-License-Identifier: Apache-2.0
import { readFile } from "node:fs/promises";
import { execPlugins, hostMounts } from "../../cni/delegation/exec-plugin.ts";
import type { PluginRunner } from "../../cni/delegation/types.ts";
import { confDir } from "../../install/conf-dir.ts";
import { DEFAULT_NETWORK_CONFIG } from "../../install/conflist.ts";
import { ConflistKeeper } from "../../install/conflist-keeper.ts";
import { installError } from "../../install/errors.ts";
import { steadyClock as clock } from "../../lib/system-clock.ts";
import type { Base } from "./base.ts";

/** Executes plugins where the runtime would. */
export function hostPlugins({ config }: Base): PluginRunner {
  return execPlugins(config.usesHostMounts ? hostMounts : {});
}

/** Undefined: somebody else writes the runtime's network configuration. */
export function makeConflistKeeper(base: Base): ConflistKeeper | undefined {
  const { cni } = base.config;
  if (cni === undefined) return undefined;
  const { conflist: file } = cni;
  return new ConflistKeeper({
    ...cni,
    dir: confDir(cni.confDir, "--cni-conf-dir, GINGHAM_CNI_CONF_DIR"),
    template: async () => (file === undefined ? DEFAULT_NETWORK_CONFIG : await readTemplate(file)),
    runner: hostPlugins(base),
    clock,
    random: Math.random,
    log: base.logs.of("cni"),
  });
}

async function readTemplate(file: string): Promise<string> {
  return await readFile(file, "utf8").catch((error: unknown) => {
    throw installError(`read ${file}`, error, "--cni-conflist, GINGHAM_CNI_CONFLIST");
  });
}
