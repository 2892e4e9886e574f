// SPDX-License-Identifier: Apache-2.0
import { describeError, GinghamError } from "../lib/errors.ts";
import { LabError } from "./errors.ts";

/**
 * Method calls over a channel of messages (Node's between parent and child): the laboratory runs in namespaces of its
 * own, and a test on the host talks to it this way.
 */
export type RPCMessage =
  | { readonly kind: "call"; readonly id: number; readonly method: string; readonly params: readonly unknown[] }
  | { readonly kind: "result"; readonly id: number; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number; readonly code: string; readonly message: string };

export interface Channel {
  send(message: RPCMessage): void;
  onMessage(listener: (message: RPCMessage) => void): void;
  /** Called once, when no answer can come any more. */
  onClose(listener: () => void): void;
}

/** The error that a remote method threw: its code and text, but not its class. */
export class RemoteError extends LabError {}

/** Answers calls with the methods of `target`. */
export function serve(
  channel: Channel,
  target: Readonly<Record<string, (...params: never[]) => Promise<unknown>>>,
): void {
  channel.onMessage((message) => {
    if (message.kind !== "call") return;
    const { id, method, params } = message;
    void answer(target[method], method, params).then(
      (value) => channel.send({ kind: "result", id, value }),
      (error: unknown) => {
        const code = error instanceof GinghamError ? error.code : "Unknown";
        channel.send({ kind: "error", id, code, message: describeError(error) });
      },
    );
  });
}

async function answer(
  method: ((...params: never[]) => Promise<unknown>) | undefined,
  name: string,
  params: readonly unknown[],
): Promise<unknown> {
  if (method === undefined) throw new LabError("NoMethod", `The laboratory has no method ${name}`);
  // Both ends are of one build, and typed by LabControl.
  return method(...(params as never[]));
}

/** A function that calls a remote method and resolves to its value. */
export function connect(channel: Channel): (method: string, params: readonly unknown[]) => Promise<unknown> {
  const pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let nextID = 1;
  let isClosed = false;
  channel.onMessage((message) => {
    if (message.kind === "call") return;
    const call = pending.get(message.id);
    pending.delete(message.id);
    if (message.kind === "result") call?.resolve(message.value);
    else call?.reject(new RemoteError(message.code, message.message));
  });
  channel.onClose(() => {
    isClosed = true;
    for (const { reject } of pending.values()) reject(new LabError("Closed", "The laboratory has ended"));
    pending.clear();
  });
  return (method, params) => {
    if (isClosed) return Promise.reject(new LabError("Closed", "The laboratory has ended"));
    const id = nextID++;
    return new Promise((resolve, reject) => {
      pending.set(id, { resolve, reject });
      channel.send({ kind: "call", id, method, params });
    });
  };
}
