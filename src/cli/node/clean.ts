// SPDX-License-Identifier: Apache-2.0
import { resolve } from "node:path";
import { nftPacketFilter } from "../../felix/nft/run-nft.ts";
import { createDirectKernel } from "../../netlink/kernel.ts";
import { type Command, defineCommand, EXIT } from "../command.ts";
import { RefusedError, UsageError } from "../errors.ts";
import { DEFAULT_SOCKET, isAgentRunning } from "./agent-socket.ts";
import { carryOutClean, gatherCleanFacts } from "./clean-node.ts";
import { describeStep, planClean } from "./clean-plan.ts";

const DEFAULT_STATE_DIR = "/var/lib/gingham";

export const command: Command = defineCommand({
  usage: `gingham node clean: remove what Gingham made on this node, and only that

  --yes             do not ask
  --force           also while an agent runs here
  --state-dir DIR   where the agent keeps its state (default: GINGHAM_STATE_DIR, or ${DEFAULT_STATE_DIR})
  --socket PATH     where it listens (default: GINGHAM_SOCKET, or ${DEFAULT_SOCKET})

Pods' links by their records, routes of protocol 80 in the main table, the VXLAN devices, the table inet gingham of nftables, records
and journal, the socket. It prints the plan first, and asks. Pods that run here lose their network; what they have in the
datastore comes free when the Node object is deleted. Forwarding stays switched on, CNI configuration and programs stay. To be run
on the node, as root, in its network namespace.
`,
  options: {
    yes: { type: "boolean" },
    force: { type: "boolean" },
    "state-dir": { type: "string" },
    socket: { type: "string" },
  },
  run: async ({ values, positionals }, context) => {
    if (positionals.length > 0) throw new UsageError(`${JSON.stringify(positionals[0])} is not understood`);
    const { yes: isSure = false, force = false } = values;
    const paths = {
      stateDir: resolve(values["state-dir"] ?? (context.env["GINGHAM_STATE_DIR"] || DEFAULT_STATE_DIR)),
      socketPath: resolve(values.socket ?? (context.env["GINGHAM_SOCKET"] || DEFAULT_SOCKET)),
    };
    if (!force && (await isAgentRunning(paths.socketPath)))
      throw new RefusedError(
        `An agent listens on ${paths.socketPath}, and would make again what is removed: stop it first; --force goes on all the same`,
      );
    const kernel = createDirectKernel();
    try {
      const filter = nftPacketFilter();
      const facts = await gatherCleanFacts(kernel, filter, paths);
      const steps = planClean(facts);
      const unknown = facts.tableProblem === undefined ? [] : [`table inet gingham of nftables: ${facts.tableProblem}`];
      const lines = steps.map(describeStep);
      if (steps.length + unknown.length === 0) {
        await context.show(() => "There is nothing of Gingham's on this node.\n", { planned: [], failed: [] });
        return EXIT.ok;
      }
      context.people.write(`To be removed:\n${lines.map((line) => `  ${line}\n`).join("")}`);
      if (!isSure && !(await context.confirm(`Remove these ${steps.length}?`))) {
        context.stderr.write("gingham: nothing was changed; --yes removes without asking\n");
        return EXIT.problem;
      }
      const failed = [...unknown, ...(await carryOutClean(steps, kernel, filter))];
      const text = (): string => `Removed ${steps.length + unknown.length - failed.length} of ${steps.length}.\n`;
      await context.show(text, { planned: lines, failed });
      for (const failure of failed) context.stderr.write(`gingham: ${failure}\n`);
      return failed.length === 0 ? EXIT.ok : EXIT.problem;
    } finally {
      await kernel.close();
    }
  },
});
