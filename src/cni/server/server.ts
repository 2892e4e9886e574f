// SPDX-License-Identifier: Apache-2.0
import { chmod, mkdir, unlink } from "node:fs/promises";
import { createServer as createHTTP, get, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { GinghamError } from "../../lib/errors.ts";
import { stringifyJSON } from "../../lib/json.ts";
import { CancelledError, CNIError, toErrorObject } from "../errors.ts";
import type { Env } from "../input/protocol.ts";
import { NEWEST_VERSION } from "../input/versions.ts";
import type { Logger } from "../ports.ts";
import { decodeEnvelope } from "./envelope.ts";
import { bodyOfCall, renderAnswer } from "./launcher-call.ts";

/** What answers a call: `execute` of the executor, with everything bound. */
export type Execute = (
  env: Env,
  stdin: string,
  signal: AbortSignal,
) => Promise<{ readonly stdout: string; readonly exitCode: 0 | 1 }>;

export interface CNIServerOptions {
  readonly socketPath: string;
  readonly execute: Execute;
  /** What GET /status answers, as JSON. */
  readonly status?: () => object;
  readonly log: Logger;
  /** How long to wait for another agent to let go of the socket, during an upgrade. Units: milliseconds; 10,000. */
  readonly takeoverMs?: number;
}

export interface CNIServer {
  /** Takes no more calls and waits for those that run. */
  close(): Promise<void>;
}

/** stdin is at most 1 MiB, and Linux limits one variable to 128 KiB. */
const MAX_BODY_BYTES = 2 * 1024 * 1024;
const POLL_MS = 100;

/**
 * Serves the launcher: POST /cni with an envelope, answered by what stdout gets. Status 200 means exit code 0. And
 * `gingham node status`: GET /status; here, since only root may open the socket.
 *
 * The launcher's request comes in one piece and is taken as it is: Node's HTTP server would make some twenty objects for
 * it. Every other shape of HTTP is left to that server. The socket is 0600 in a folder of 0700. A socket
 * file that nobody listens on any more, left by a killed agent, is replaced.
 *
 * @throws SocketInUseError when another agent keeps listening, Error of node:net for anything else
 */
export async function listenCNI(options: CNIServerOptions): Promise<CNIServer> {
  const { socketPath, takeoverMs } = options;
  const http = createHTTP({ keepAlive: false }, (request, response) => void serve(options, request, response));
  // A call may wait for the datastore for longer than Node's default of five minutes; the launcher limits the whole.
  http.requestTimeout = 0;
  http.timeout = 0;
  const silent = new Set<Socket>();
  const server = createServer((socket) => {
    silent.add(socket);
    socket.once("close", () => silent.delete(socket));
    // Whoever is gone needs no answer; the call itself hears of it by the close that follows.
    socket.on("error", () => {});
    socket.once("data", (bytes: Buffer) => {
      silent.delete(socket);
      const body = bodyOfCall(bytes);
      if (body !== undefined) {
        void serveCall(options, socket, body);
        return;
      }
      http.emit("connection", socket);
      socket.unshift(bytes);
    });
  });
  await listenAlone(server, socketPath, { takeoverMs, inUse: socketPath });
  await chmod(socketPath, 0o600);
  return {
    close: async () => {
      const end = closed(server);
      for (const socket of silent) socket.destroy();
      await end;
    },
  };
}

/**
 * Asks whoever serves the socket for a sign of life, as the launcher would.
 *
 * @throws Error which says why there is none: no file, nobody who listens, no answer in time
 */
export async function askServer(socketPath: string, timeoutMs: number): Promise<void> {
  const asked = get({ socketPath, path: "/health", agent: false, signal: AbortSignal.timeout(timeoutMs) });
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  asked.once("response", resolve).on("error", reject);
  const response = await promise;
  response.resume();
  if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
}

/**
 * Makes sure that no other agent has the socket, or is about to have it: before this one has written anything to the
 * kernel, and long before it can answer a call, which is when the socket itself opens. What holds the lock is a listening
 * socket beside the other one, since the kernel lets go of that with the process.
 *
 * @throws SocketInUseError when another agent keeps the lock, Error of node:net for anything else
 */
export async function lockSocket({ socketPath, takeoverMs }: SocketLockOptions): Promise<CNIServer> {
  const server = createServer((socket) => socket.destroy());
  await listenAlone(server, `${socketPath}.lock`, { takeoverMs, inUse: socketPath });
  return { close: () => closed(server) };
}

export type SocketLockOptions = Pick<CNIServerOptions, "socketPath" | "takeoverMs">;

/** Listens on a path of this user's own, once nobody else does. */
async function listenAlone(
  server: Server,
  path: string,
  { takeoverMs = 10_000, inUse }: { readonly takeoverMs: number | undefined; readonly inUse: string },
): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  for (let waitedMs = 0; !(await tryListen(server, path)); ) {
    if (!(await isListening(path))) {
      await unlink(path).catch(ignoreMissing);
      continue;
    }
    if (waitedMs >= takeoverMs) throw new SocketInUseError(inUse);
    await sleep(POLL_MS);
    waitedMs += POLL_MS;
  }
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

/** Two agents with one socket: each would undo what the other does. */
export class SocketInUseError extends GinghamError {
  constructor(socketPath: string) {
    super("SocketInUse", `Cannot listen on ${socketPath}: another agent does; stop it, or choose another socket`);
  }
}

/** As `serve`, for the launcher's own request. */
async function serveCall(options: CNIServerOptions, socket: Socket, body: Uint8Array): Promise<void> {
  const hangUp = new AbortController();
  let isAnswered = false;
  socket.once("close", () => {
    if (!isAnswered) hangUp.abort(new CancelledError("The call", "the caller hung up"));
  });
  const { status, text } = await answerTo(options, body, hangUp.signal);
  if (hangUp.signal.aborted) return;
  isAnswered = true;
  socket.end(renderAnswer(status, text));
}

async function answerTo(
  { execute, log }: CNIServerOptions,
  body: Uint8Array,
  signal: AbortSignal,
): Promise<{ readonly status: 200 | 500; readonly text: string }> {
  try {
    const { env, stdin } = decodeEnvelope(body);
    const { stdout, exitCode } = await execute(env, stdin, signal);
    return { status: exitCode === 0 ? 200 : 500, text: stdout };
  } catch (error) {
    if (!signal.aborted) log.error({ err: error }, "A call could not be served");
    return { status: 500, text: refusal(error) };
  }
}

async function serve(options: CNIServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { status, log } = options;
  const hangUp = new AbortController();
  response.on("close", () => {
    if (!response.writableFinished) hangUp.abort(new CancelledError("The call", "the caller hung up"));
  });
  try {
    if (request.method === "GET" && request.url === "/status" && status !== undefined) {
      answer(response, 200, stringifyJSON(status()));
      return;
    }
    if (request.method === "GET" && request.url === "/health") {
      answer(response, 200, "{}");
      return;
    }
    if (request.method !== "POST" || request.url !== "/cni") {
      const what = `${request.method} ${request.url}`;
      answer(response, 404, refusal(new CNIError("Internal", `No such call: ${what}; the launcher sends POST /cni`)));
      return;
    }
    const body = await readBody(request);
    if (body === undefined) {
      answer(response, 413, refusal(new CNIError("Undecodable", `The call has more than ${MAX_BODY_BYTES} bytes`)));
      return;
    }
    const { status: code, text } = await answerTo(options, body, hangUp.signal);
    if (!hangUp.signal.aborted) answer(response, code, text);
  } catch (error) {
    if (hangUp.signal.aborted) return;
    log.error({ err: error }, "A call could not be served");
    answer(response, 500, refusal(error));
  }
}

function answer(response: ServerResponse, status: number, body: string): void {
  const bytes = Buffer.from(body);
  response.writeHead(status, {
    "Content-Type": "application/json",
    "Content-Length": bytes.length,
    Connection: "close",
  });
  response.end(bytes);
}

function refusal(error: unknown): string {
  return stringifyJSON(toErrorObject(error, NEWEST_VERSION));
}

/** Undefined when it is too long. */
async function readBody(request: IncomingMessage): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  return length > MAX_BODY_BYTES ? undefined : Buffer.concat(chunks);
}

/** False when the path is taken. */
function tryListen(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException) => {
      server.off("listening", onListening);
      if (error.code === "EADDRINUSE") resolve(false);
      else reject(error);
    };
    const onListening = () => {
      server.off("error", onError);
      resolve(true);
    };
    server.once("error", onError).once("listening", onListening).listen({ path });
  });
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}
