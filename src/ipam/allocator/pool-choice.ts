// SPDX-License-Identifier: Apache-2.0
import type { AllowedUse, EffectiveIPPool } from "../../crds/ip-pool.ts";
import type { Family } from "../../net/ip.ts";
import { IPAMError } from "../errors.ts";
import { type PoolFinding, selectorsInUse, selectPools } from "../pools.ts";
import type { IPAMSources } from "../ports.ts";
import type { PoolNames } from "../types.ts";

/** Out of which blocks a request may be served. */
export interface BlockNeed {
  readonly family: Family;
  readonly pools?: PoolNames;
  readonly namespace?: string;
  /** @default Workload */
  readonly use?: AllowedUse;
  /** It is asked for no namespace in particular: a pool counts whichever namespaces it is for. */
  readonly isForAnyNamespace?: boolean;
}

export interface ChoiceTools {
  readonly sources: IPAMSources;
  readonly nodeName: string;
  readonly onBackgroundError: (error: unknown) => void;
}

/** Chooses the pools of a need, and asks for labels only where a selector does. */
export class PoolChoice {
  readonly #tools: ChoiceTools;
  /** Pools chosen without a look at labels, by use, family and names, as long as the sources give the same list of pools. */
  readonly #choices = new WeakMap<readonly EffectiveIPPool[], Map<string, readonly EffectiveIPPool[]>>();
  /** Findings about pools that were told already. */
  readonly #reported = new Set<string>();

  constructor(tools: ChoiceTools) {
    this.#tools = tools;
  }

  /** Errors: IPAMError `PoolNotFound`, `Datastore`. */
  async of(need: BlockNeed): Promise<readonly EffectiveIPPool[]> {
    const { sources, nodeName } = this.#tools;
    const { family, namespace, use = "Workload" } = need;
    const pools = sources.pools();
    const stored = pools instanceof Promise ? await pools : pools;
    const all = need.isForAnyNamespace ? stored.map((pool) => ({ ...pool, namespaceSelector: "" })) : stored;
    const names = need.pools?.[family] ?? [];
    const choiceKey = `${use} ${family} ${names.join()}`;
    const known = this.#choices.get(all)?.get(choiceKey);
    if (known !== undefined) return known;
    // Labels are asked for only where a selector asks: nearly everywhere all pools are for all.
    const inUse = selectorsInUse(names.length === 0 ? all : []);
    const nodeLabels = inUse.nodeSelector ? await sources.nodeLabels() : {};
    const hasNamespace = inUse.namespaceSelector && namespace !== undefined;
    const namespaceLabels = hasNamespace ? await sources.namespaceLabels(namespace) : {};
    const choice = selectPools(all, {
      family,
      names,
      use,
      nodeName,
      ...(nodeLabels && { nodeLabels }),
      ...(namespace !== undefined && { namespace }),
      ...(namespaceLabels && { namespaceLabels }),
    });
    for (const finding of choice.findings) this.#report(finding);
    if (inUse.nodeSelector || inUse.namespaceSelector) return choice.pools;
    // Nothing but the pools has a say. The same array again lets others remember what they know of it, too.
    const choices = this.#choices.get(all) ?? new Map<string, readonly EffectiveIPPool[]>();
    this.#choices.set(all, choices.set(choiceKey, choice.pools));
    return choice.pools;
  }

  /** Once for each text that cannot be read. */
  #report({ pool, field, error }: PoolFinding): void {
    const what = `IPPool ${pool} is not used: its ${field} cannot be read`;
    if (this.#reported.has(`${what} ${error.message}`)) return;
    this.#reported.add(`${what} ${error.message}`);
    const cause = { cause: error };
    this.#tools.onBackgroundError(
      new IPAMError("InvalidSelector", `${what}; correct it (kubectl edit ippool ${pool})`, cause),
    );
  }
}
