// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expectSound } from "../../ipam/fake-node.ts";
import { FakeNodes, type NodeName } from "./fake-nodes.ts";

/** Each pod's fixed address: one by its StatefulSet, one by its own name. */
const ADDRESS = { "web-0": "10.0.0.200", db: "10.0.0.220" } as const;
type PodName = keyof typeof ADDRESS;
const PODS = ["web-0", "db"] as const;
const NODES = ["node-a", "node-b"] as const;

interface Sandbox {
  readonly container: string;
  readonly node: NodeName;
  readonly pod: PodName;
  readonly uid: string;
  /** Its namespace is there. */
  isAlive: boolean;
  /** Its ADD succeeded, and no DEL came yet. */
  isAttached: boolean;
}

type Op = readonly [
  what: "create" | "delete" | "add" | "staleAdd" | "kill" | "DEL" | "mark",
  pod: PodName,
  pick: number,
];

/** What kubelets, people and nodes do in whatever order, and what must be true after each step. */
class Model {
  readonly world: FakeNodes = new FakeNodes(Object.values(ADDRESS).map((ip) => `${ip}/32`));
  readonly #sandboxes: Sandbox[] = [];
  /** UIDs that had each name, and their nodes. */
  readonly #lives: { readonly pod: PodName; readonly uid: string; readonly node: NodeName }[] = [];
  #count = 0;
  moves = 0;
  refused = 0;

  constructor() {
    this.world.reserve("set", [ADDRESS["web-0"]]);
    this.world.reserve("one", [ADDRESS.db], "Pod", "db");
  }

  async apply([what, pod, pick]: Op): Promise<void> {
    const { world } = this;
    const node = NODES[pick % 2] ?? "node-a";
    const live = this.#lives.find(({ uid }) => uid === world.pods.get(pod)?.uid);
    const mine = this.#sandboxes.filter((sandbox) => sandbox.pod === pod);
    const sandbox = mine[pick % Math.max(1, mine.length)];
    switch (what) {
      case "create": {
        if (live !== undefined) return;
        const uid = `u${++this.#count}`;
        this.#lives.push({ pod, uid, node });
        return world.setPod(pod, uid, node);
      }
      case "delete":
        return void world.pods.delete(pod);
      case "mark":
        return void (world.lost.delete(node) || world.lost.add(node));
      case "add":
        return live && (await this.#add(live, true));
      case "staleAdd": {
        const stale = this.#lives.filter((life) => life.pod === pod && life !== live);
        const life = stale[pick % Math.max(1, stale.length)];
        return life && (await this.#add(life, false));
      }
      case "kill":
        if (sandbox === undefined) return;
        world.machines[sandbox.node].kernel.removeNetns(`/run/netns/${sandbox.container}`);
        sandbox.isAlive = false;
        return;
      case "DEL":
        if (sandbox === undefined) return;
        await world.call(sandbox.node, "DEL", pod, sandbox.container, { uid: sandbox.uid });
        sandbox.isAttached = false;
    }
  }

  async #add({ pod, uid, node }: { pod: PodName; uid: string; node: NodeName }, isLive: boolean): Promise<void> {
    const container = `c${++this.#count}`;
    const before = this.world.holderOf(ADDRESS[pod]);
    const isBlocked = this.#sandboxes.some(
      (other) => other.pod === pod && other.node === node && other.isAlive && other.isAttached,
    );
    const answer = await this.world.add(node, pod, container, { uid });
    const isAttached = !/^\d+: /.test(answer);
    this.#sandboxes.push({ container, node, pod, uid, isAlive: true, isAttached });
    if (!isAttached) this.refused++;
    if (!isLive) return;
    if (!isBlocked) expect(answer).toBe(`${ADDRESS[pod]}/32`);
    else if (!isAttached) expect(answer).toMatch(/^11: .* is still held/);
    if (isAttached && before !== undefined && !before.endsWith(node)) this.moves++;
  }

  /** Nobody takes the address of a pod that lives, and nothing is lost or given twice. */
  check(): void {
    expectSound(this.world.store);
    for (const pod of PODS) {
      const uid = this.world.pods.get(pod)?.uid;
      const running = this.#sandboxes.filter((s) => s.uid === uid && s.pod === pod && s.isAlive && s.isAttached);
      for (const { container, node } of running)
        expect(this.world.holderOf(ADDRESS[pod])).toBe(`k8s-pod-network.${container} on ${node}`);
    }
  }
}

const op: fc.Arbitrary<Op> = fc.tuple(
  fc.constantFrom("create", "create", "delete", "add", "add", "add", "staleAdd", "kill", "DEL", "mark"),
  fc.constantFrom(...PODS),
  fc.nat(7),
);

describe("fixed addresses", () => {
  it("are always the living pod's, and never taken from it, whatever kubelets and people do", async () => {
    const seen = { moves: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(op, { minLength: 20, maxLength: 80, size: "max" }), async (ops) => {
        const model = new Model();
        using _world = model.world;
        for (const step of ops) {
          await model.apply(step);
          model.check();
        }
        seen.moves += model.moves;
        seen.refused += model.refused;
      }),
      { numRuns: 40 },
    );
    // Else it proves less than it says.
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(2);
  }, 60_000);
});
