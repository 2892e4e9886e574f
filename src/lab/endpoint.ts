// SPDX-License-Identifier: Apache-2.0
import { createServer as createHTTPServer, get } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { UsageError } from "./errors.ts";
import { measureRate, type Sample } from "./rate.ts";

/**
 * The small programs that the laboratory runs inside pods and nodes. Each prints `ready` once it can be used, and one
 * line of JSON at its end.
 */
export async function runEndpoint(argv: readonly string[]): Promise<void> {
  const [role = "", ...args] = argv;
  const [first = "", second = "", third = ""] = args;
  switch (role) {
    case "answer":
      return answerHTTP(Number(first), second);
    case "ask":
      return askHTTP(first);
    case "sink":
      return receive(Number(first), Number(second));
    case "source":
      return send(first, Number(second), Number(third));
    default:
      throw new UsageError(`There is no endpoint ${role}`);
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Answers every request with a text, until it is ended. */
function answerHTTP(port: number, text: string): void {
  const server = createHTTPServer((request, response) => {
    response.end(`${text} for ${request.socket.remoteAddress?.replace("::ffff:", "") ?? "?"}\n`);
  });
  // Of both families, where the kernel has both.
  server.listen(port, () => say("ready"));
}

/** Sends one request and prints the answer's body. */
async function askHTTP(url: string): Promise<void> {
  const body = await new Promise<string>((resolve, reject) => {
    get(url, { timeout: 5_000, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve(Buffer.concat(chunks).toString()));
    })
      .on("timeout", function (this: { destroy(error: Error): void }) {
        this.destroy(new Error(`no answer from ${url} within 5 s`));
      })
      .on("error", reject);
  });
  process.stdout.write(body);
}

/** Takes one connection, then prints the rate at which its bytes came in. The first `skipMs` are the bucket's burst. */
async function receive(port: number, skipMs: number): Promise<void> {
  const server = createServer({ allowHalfOpen: false });
  server.listen(port, () => say("ready"));
  const socket = await new Promise<Socket>((resolve) => server.once("connection", resolve));
  server.close();
  const samples: Sample[] = [];
  socket.on("data", (chunk: Buffer) => samples.push({ atMs: performance.now(), bytes: chunk.length }));
  // The sender may end by a reset; what has arrived until then counts.
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("close", resolve));
  say(JSON.stringify(measureRate(samples, skipMs)));
}

/** Sends as much as the network takes for so long. */
async function send(host: string, port: number, durationMs: number): Promise<void> {
  const socket = connect(port, host);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  socket.on("error", () => {});
  const block = Buffer.alloc(64 * 1024);
  const fill = (): void => {
    while (socket.writable && socket.write(block));
  };
  socket.on("drain", fill);
  fill();
  await sleep(durationMs);
  socket.destroy();
  say("{}");
}
