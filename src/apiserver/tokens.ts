// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { WatchedFile } from "../kube/watched-file.ts";
import type { Clock } from "../lib/clock.ts";
import { describeError } from "../lib/errors.ts";
import type { Identity, IdentitySource } from "./auth.ts";
import { TokenFileError } from "./errors.ts";
import { isObject } from "./model.ts";

/**
 * Reads a token file: a JSON array of `{token, user, role, node}`, or lines `token,user,role,node` where # begins a
 * comment.
 *
 * @throws TokenFileError that names the entry.
 */
export function parseTokens(text: string): Identity[] {
  const trimmed = text.trim();
  if (!trimmed.startsWith("[")) {
    const lines = trimmed.split("\n").map((l) => l.trim());
    return lines.flatMap((line, i) => (line === "" || line.startsWith("#") ? [] : [fromLine(line, i + 1)]));
  }
  let entries: unknown;
  try {
    entries = JSON.parse(trimmed);
  } catch (cause) {
    throw new TokenFileError("Cannot read the token file: it begins with [ but is not JSON", { cause });
  }
  if (!Array.isArray(entries)) return [];
  return entries.map((entry: unknown, i) => toIdentity(isObject(entry) ? entry : {}, `entry ${i + 1}`));
}

function fromLine(line: string, number: number): Identity {
  const [token, user, role, node] = line.split(",").map((field) => field.trim().replace(/^"(.*)"$/, "$1"));
  return toIdentity({ token, user, role, node }, `line ${number}`);
}

function toIdentity(entry: { readonly [field: string]: unknown }, where: string): Identity {
  const { token, user, role, node } = entry;
  if (typeof token !== "string" || token.length < 8 || typeof user !== "string" || user === "") {
    throw new TokenFileError(
      `Cannot use ${where} of the token file: it needs a token of 8 characters or more and a user`,
    );
  }
  if (role === "admin") return { token, user, role };
  if (role !== "node") {
    throw new TokenFileError(
      `Cannot use ${where} of the token file: role is ${JSON.stringify(role)}, use admin or node`,
    );
  }
  if (typeof node !== "string" || node === "") {
    throw new TokenFileError(`Cannot use ${where} of the token file: the role node needs the name of a node`);
  }
  return { token, user, role, node };
}

export function makeToken(user: string, role: Identity["role"], node?: string): Identity {
  return { token: randomBytes(24).toString("base64url"), user, role, ...(node !== undefined && { node }) };
}

/** Reads a token file; where it may be made, a missing one is written with one token for an admin. */
export function loadTokens(file: string, isMadeWhenMissing: boolean): Identity[] {
  if (isMadeWhenMissing && !existsSync(file)) {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const admin = makeToken("admin", "admin");
    writeFileSync(file, `# token,user,role,node\n${admin.token},${admin.user},${admin.role}\n`, { mode: 0o600 });
  }
  return parseTokens(readFileSync(file, "utf8"));
}

/**
 * Follows a token file: a line that comes counts at once, one that goes counts for some seconds more.
 *
 * @param onProblem hears why a version of the file cannot be used; the one before stays in force
 */
export function followTokens(file: string, clock: Clock, onProblem: (why: string) => void): IdentitySource {
  const watched = new WatchedFile(file, clock);
  let known: string | undefined;
  return {
    changed: (isUrgent) => {
      if (isUrgent) watched.check();
      const text = watched.read();
      if (text === known) return undefined;
      known = text;
      try {
        return parseTokens(text);
      } catch (error) {
        onProblem(describeError(error));
        return undefined;
      }
    },
  };
}
