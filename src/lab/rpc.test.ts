// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { LabError } from "./errors.ts";
import { type Channel, connect, RemoteError, type RPCMessage, serve } from "./rpc.ts";

function createPair(): { near: Channel; far: Channel; close: () => void } {
  const listeners: [((m: RPCMessage) => void)[], ((m: RPCMessage) => void)[]] = [[], []];
  const closers: (() => void)[] = [];
  const end = (mine: 0 | 1): Channel => ({
    send: (message) =>
      queueMicrotask(() => {
        for (const listener of listeners[mine === 0 ? 1 : 0]) listener(message);
      }),
    onMessage: (listener) => void listeners[mine].push(listener),
    onClose: (listener) => void closers.push(listener),
  });
  return { near: end(0), far: end(1), close: () => void closers.map((closer) => closer()) };
}

test("connect() calls the method and returns its value", async () => {
  const { near, far } = createPair();
  serve(far, { add: async (a: number, b: number) => a + b });
  const call = connect(near);
  expect(await Promise.all([call("add", [1, 2]), call("add", [3, 4])])).toEqual([3, 7]);
});

test("connect() rejects with code and text of what the method threw", async () => {
  const { near, far } = createPair();
  serve(far, {
    fail: () => Promise.reject(new LabError("NoNode", "There is no node-9")),
  });
  const error: unknown = await connect(near)("fail", []).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(RemoteError);
  expect(error).toMatchObject({ code: "NoNode", message: "There is no node-9" });
  await expect(connect(near)("nothing", [])).rejects.toThrow(/no method nothing/);
});

test("connect() rejects what is pending, and all that follows, when the channel closes", async () => {
  const { near, far, close } = createPair();
  serve(far, { hang: () => new Promise(() => {}) });
  const call = connect(near);
  const hanging = call("hang", []);
  close();
  await expect(hanging).rejects.toThrow(/has ended/);
  await expect(call("hang", [])).rejects.toThrow(/has ended/);
});
