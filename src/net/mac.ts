// SPDX-License-Identifier: Apache-2.0

/** Ethernet address as people write it: six lower-case hex pairs with colons. */
export type MAC = string & { readonly __mac: true };

/** @throws SyntaxError */
export function parseMAC(text: string): MAC {
  if (!/^(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/.test(text)) {
    throw new SyntaxError(`Not an Ethernet address: ${JSON.stringify(text)}`);
  }
  return text.toLowerCase() as MAC;
}

export function macToBytes(mac: MAC): Uint8Array {
  return Uint8Array.from(mac.split(":"), (pair) => Number.parseInt(pair, 16));
}

/** @throws RangeError when there are not six bytes. */
export function macFromBytes(bytes: Uint8Array): MAC {
  if (bytes.length !== 6) throw new RangeError(`An Ethernet address has 6 bytes, got ${bytes.length}`);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":") as MAC;
}
