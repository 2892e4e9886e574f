// SPDX-License-Identifier: Apache-2.0
import { join, resolve } from "node:path";
import { gatherForeign } from "../../felix/foreign/gather.ts";
import { hasCalicoAgent } from "../../felix/foreign/judge.ts";
import { nftPacketFilter } from "../../felix/nft/run-nft.ts";
import { describeError } from "../../lib/errors.ts";
import { createDirectKernel } from "../../netlink/kernel.ts";
import { type Command, type CommandContext, defineCommand, EXIT } from "../command.ts";
import { RefusedError, UsageError } from "../errors.ts";
import { DEFAULT_SOCKET, isAgentRunning } from "./agent-socket.ts";
import { planLeftovers, type Removal } from "./calico-leftovers.ts";
import { cleanRemovals, gatherCleanFacts } from "./clean-node.ts";
import { planClean } from "./clean-plan.ts";

const DEFAULT_STATE_DIR = "/var/lib/gingham";
const DEFAULT_CONF_DIR = "/etc/cni/net.d";
const DEFAULT_CONF_NAME = "10-gingham.conflist";

export const command: Command = defineCommand({
  usage: `gingham node clean: remove what Gingham made on this node, and only that

  --calico-leftovers  instead: what an agent of Calico's has left here, which is gone
  --keep-pods         leaves links, routes and tunnels: pods go on until Calico's agent takes over, to which these belong then
  --yes               do not ask
  --force             also while an agent runs here, Gingham's or Calico's
  --state-dir DIR     where the agent keeps its state (default: GINGHAM_STATE_DIR, or ${DEFAULT_STATE_DIR})
  --socket PATH       where it listens (default: GINGHAM_SOCKET, or ${DEFAULT_SOCKET})
  --cni-conf-dir DIR  the runtime's network configurations (default: GINGHAM_CNI_CONF_DIR, or ${DEFAULT_CONF_DIR})
  --root DIR          where the host's files are, for a pod that has them mounted: goes before all these paths (default: /)

The network configuration, and others get their names back; pods' links by their records, routes of protocol 80 in the main table, the
VXLAN devices, the address of tunl0, the table inet gingham of nftables; programs that gingham-install has put there; records and
journal, the socket. It prints the plan first, and asks. Pods that run here lose their network; what they have in the
datastore comes free when the Node object is deleted. Forwarding stays switched on, and what was unpacked from a release stays. To be
run on the node, as root, in its network namespace.
`,
  options: {
    "calico-leftovers": { type: "boolean" },
    "keep-pods": { type: "boolean" },
    yes: { type: "boolean" },
    force: { type: "boolean" },
    "state-dir": { type: "string" },
    socket: { type: "string" },
    "cni-conf-dir": { type: "string" },
    root: { type: "string", default: "/" },
  },
  run: async ({ values, positionals }, context) => {
    if (positionals.length > 0) throw new UsageError(`${JSON.stringify(positionals[0])} is not understood`);
    const { yes: isSure = false, force = false, "calico-leftovers": isCalico = false } = values;
    const { "keep-pods": keepsPods = false } = values;
    if (isCalico && keepsPods) throw new UsageError("--keep-pods and --calico-leftovers exclude each other");
    const uid = process.getuid?.();
    if (uid !== 0)
      throw new RefusedError(
        `Only root can remove links, routes and the host's files, and this is user ${uid}: use sudo; in a pod, set runAsUser: 0`,
      );
    const root = resolve(values.root);
    const at = (flag: string | undefined, variable: string, fallback: string): string =>
      join(root, resolve(flag ?? (context.env[variable] || fallback)));
    const paths = {
      root,
      stateDir: at(values["state-dir"], "GINGHAM_STATE_DIR", DEFAULT_STATE_DIR),
      socketPath: at(values.socket, "GINGHAM_SOCKET", DEFAULT_SOCKET),
      confDir: at(values["cni-conf-dir"], "GINGHAM_CNI_CONF_DIR", DEFAULT_CONF_DIR),
      confName: context.env["GINGHAM_CNI_CONF_NAME"] || DEFAULT_CONF_NAME,
    };
    if (!isCalico && !force && (await isAgentRunning(paths.socketPath)))
      throw new RefusedError(
        `An agent listens on ${paths.socketPath}, and would make again what is removed: stop it first; --force goes on all the same`,
      );
    const kernel = createDirectKernel();
    try {
      const filter = nftPacketFilter();
      const foreign = gatherForeign({ routes: kernel.routes });
      if (isCalico) return await remove(await planLeftovers(foreign, kernel, filter, { force }), context, isSure);
      // Of what Calico's agent makes under the same names, nothing is removed then.
      if (!force && !keepsPods && hasCalicoAgent(await foreign.read()))
        throw new RefusedError(
          "Calico's agent runs on this node, and what it makes has the same names and protocol: stop it first; --force goes on all the same",
        );
      const facts = await gatherCleanFacts(kernel, filter, paths);
      return await remove(cleanRemovals(planClean(facts, { keepsPods }), facts, kernel, filter), context, isSure);
    } finally {
      await kernel.close();
    }
  },
});

/** Shows the plan, asks, and carries it out in its order. What fails does not stop the next, but for what says so. */
async function remove(removals: readonly Removal[], context: CommandContext, isSure: boolean): Promise<number> {
  const planned = removals.map(({ what }) => what);
  if (removals.length === 0) {
    await context.show(() => "There is nothing of it on this node.\n", { planned, failed: [] });
    return EXIT.ok;
  }
  context.people.write(`To be removed:\n${planned.map((line) => `  ${line}\n`).join("")}`);
  if (!isSure && !(await context.confirm(`Remove these ${removals.length}?`))) {
    context.stderr.write("gingham: nothing was changed; --yes removes without asking\n");
    return EXIT.problem;
  }
  const failed: string[] = [];
  for (const removal of removals) {
    try {
      if (removal.isLast === true && failed.length > 0)
        throw new RefusedError("left, so that the command can be given again");
      await removal.remove();
    } catch (error) {
      failed.push(`${removal.what}: ${describeError(error)}`);
    }
  }
  const text = (): string => `Removed ${removals.length - failed.length} of ${removals.length}.\n`;
  await context.show(text, { planned, failed });
  for (const failure of failed) context.stderr.write(`gingham: ${failure}\n`);
  return failed.length === 0 ? EXIT.ok : EXIT.problem;
}
