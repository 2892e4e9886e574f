// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseIP } from "../../net/ip.ts";
import type { PodState } from "./ports.ts";
import { combine, POD_IP, patchFor, type Wish } from "./wish.ts";

const pod = { namespace: "default", name: "web-0", uid: "u1" };
const CONTAINERS = 5;

/** What happens to one pod: each sandbox comes once, in order, and goes at any time after. */
const history: fc.Arbitrary<readonly Wish[]> = fc
  .array(fc.record({ container: fc.nat(CONTAINERS - 1), isAttach: fc.boolean() }), { maxLength: 20 })
  .map((wanted) => {
    const wishes: Wish[] = [];
    const live = new Set<number>();
    let next = 0;
    for (const { container, isAttach } of wanted) {
      if (isAttach && next < CONTAINERS) {
        live.add(next);
        wishes.push({ pod, sandbox: { containerID: `c${next}`, ips: [parseIP(`10.0.0.${next}`)] } });
        next++;
      } else if (live.delete(container)) wishes.push({ pod, gone: [`c${container}`] });
    }
    return wishes;
  });

function write(state: PodState, wish: Wish): PodState {
  const patch = patchFor(wish, state);
  return patch === undefined ? state : { ...state, annotations: { ...state.annotations, ...patch.annotations } };
}

/** Applies a history as a queue does whose n-th attempt to write happens, fails, or is not made. */
function batched(start: PodState, wishes: readonly Wish[], fates: readonly string[]): PodState {
  let state = start;
  let waiting: Wish | undefined;
  let underWay: Wish | undefined;
  for (const [i, wish] of wishes.entries()) {
    waiting = waiting === undefined ? wish : combine(waiting, wish);
    const fate = fates[i % fates.length];
    if (fate === "begin" && underWay === undefined) [underWay, waiting] = [waiting, undefined];
    else if (fate === "succeed" && underWay !== undefined) [state, underWay] = [write(state, underWay), undefined];
    else if (fate === "fail" && underWay !== undefined)
      [waiting, underWay] = [waiting === undefined ? underWay : combine(underWay, waiting), undefined];
  }
  for (const wish of [underWay, waiting]) if (wish !== undefined) state = write(state, wish);
  return state;
}

test("however writes are put together, delayed or repeated, the pod ends as if each had been made at once", () => {
  const fates = fc.array(fc.constantFrom("wait", "begin", "succeed", "fail"), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(history, fates, (wishes, fate) => {
      const start: PodState = { uid: "u1", resourceVersion: "1", annotations: {} };
      const atOnce = wishes.reduce(write, start);
      expect(batched(start, wishes, fate).annotations[POD_IP]).toBe(atOnce.annotations[POD_IP]);
    }),
  );
});
