// SPDX-License-Identifier: Apache-2.0
import { isIP, isIPv4, isIPv6 } from "node:net";
import { isInteger } from "./model.ts";

const RANGES: Readonly<Record<string, readonly [bigint, bigint]>> = {
  int32: [-(2n ** 31n), 2n ** 31n - 1n],
  int64: [-(2n ** 63n), 2n ** 63n - 1n],
};

const DATE_TIME = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:?\d{2})$/;
const MAC = /^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$/;
const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;

const TEXTS: Readonly<Record<string, (text: string) => boolean>> = {
  ipv4: isIPv4,
  ipv6: isIPv6,
  ip: (text) => isIP(text) !== 0,
  cidr: isCIDR,
  mac: (text) => MAC.test(text),
  uuid: (text) => UUID.test(text),
  date: (text) => /^\d{4}-\d{2}-\d{2}$/.test(text),
  "date-time": (text) => DATE_TIME.test(text) && !Number.isNaN(Date.parse(text)),
};

/** What is wrong with a value of the given format; formats that kube-apiserver ignores are never wrong. */
export function checkFormat(format: string, value: unknown): string | undefined {
  if (isInteger(value)) {
    const range = RANGES[format];
    const exact = BigInt(value);
    return range !== undefined && (exact < range[0] || exact > range[1])
      ? `must be of type integer with format ${format}`
      : undefined;
  }
  if (typeof value !== "string") return undefined;
  const isMet = TEXTS[format];
  return isMet === undefined || isMet(value) ? undefined : `must be of type ${format}: ${JSON.stringify(value)}`;
}

function isCIDR(text: string): boolean {
  const slash = text.indexOf("/");
  const family = isIP(text.slice(0, slash));
  const length = text.slice(slash + 1);
  return slash > 0 && family !== 0 && /^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128);
}
