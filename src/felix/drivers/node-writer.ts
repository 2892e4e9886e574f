// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import type { NodeStatusPort } from "../ports.ts";

/**
 * The one writer of this node's object in the process: addresses, tunnel addresses, condition and taints are written by
 * read, change and write, one after the other, so that they never cost each other a conflict. Source: calico-interop 4.6.
 */
export class NodeWriter {
  readonly #port: NodeStatusPort;
  #last: Promise<unknown> = Promise.resolve();

  constructor(port: NodeStatusPort) {
    this.#port = port;
  }

  get(): Promise<Node> {
    return this.#port.get();
  }

  /**
   * Reads the object and writes what `change` makes of it; undefined: it is right as it is. Resolves to whether it was
   * written. Errors: those of the API, a conflict among them (kubelets write the same object): the caller tries again.
   */
  edit(change: (node: Node) => Node | undefined): Promise<boolean> {
    return this.#inTurn(async () => {
      const next = change(await this.#port.get());
      if (next !== undefined) await this.#port.updateStatus(next);
      return next !== undefined;
    });
  }

  /** Takes all taints of that key off the node. Resolves to whether there was one. Errors: as above. */
  removeTaint(key: string): Promise<boolean> {
    return this.#inTurn(async () => {
      const node = await this.#port.get();
      const taints = node.spec?.taints ?? [];
      const kept = taints.filter((taint) => taint.key !== key);
      if (kept.length < taints.length) await this.#port.setTaints(node, kept);
      return kept.length < taints.length;
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}
