// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";
import type { MAC } from "../../net/mac.ts";
import type { AttributeReader, MessageWriter } from "./attribute.ts";
import { DecodeError } from "./errors.ts";

/**
 * How one property of a message becomes one attribute and comes back. A kind's table of fields is the whole of its
 * attribute codec, so encoding and decoding cannot drift apart.
 */
export interface Codec<T> {
  /** Undefined: the value is there but is of no use here, and the property stays out. */
  read(attributes: AttributeReader): T | undefined;
  write(w: MessageWriter, type: number, value: T): void;
}

/** One line of such a table. */
export interface Field<M> {
  readonly type: number;
  read(attributes: AttributeReader, into: Partial<M>): void;
  write(w: MessageWriter, message: M): void;
}

export const u8: Codec<number> = { read: (a) => a.u8(), write: (w, type, value) => w.attrU8(type, value) };
export const u16: Codec<number> = { read: (a) => a.u16(), write: (w, type, value) => w.attrU16(type, value) };
export const u16BE: Codec<number> = { read: (a) => a.u16BE(), write: (w, type, value) => w.attrU16BE(type, value) };
export const u32: Codec<number> = { read: (a) => a.u32(), write: (w, type, value) => w.attrU32(type, value) };
export const u32BE: Codec<number> = { read: (a) => a.u32BE(), write: (w, type, value) => w.attrU32BE(type, value) };
export const i32: Codec<number> = { read: (a) => a.i32(), write: (w, type, value) => w.attrU32(type, value >>> 0) };
export const bool8: Codec<boolean> = {
  read: (a) => a.u8() !== 0,
  write: (w, type, value) => w.attrU8(type, value ? 1 : 0),
};
export const string: Codec<string> = { read: (a) => a.string(), write: (w, type, value) => w.attrString(type, value) };
export const ip: Codec<IP> = { read: (a) => a.ip(), write: (w, type, value) => w.attrIP(type, value) };
export const mac: Codec<MAC> = { read: (a) => a.mac(), write: (w, type, value) => w.attrMAC(type, value) };

/** A property with one attribute per family (VXLAN's group and group6): each writes only its own. */
export const ip4: Codec<IP> = {
  read: (a) => ofLength(a, 4).ip(),
  write: (w, type, value) => {
    if (typeof value === "number") w.attrIP(type, value);
  },
};
export const ip6: Codec<IP> = {
  read: (a) => ofLength(a, 16).ip(),
  write: (w, type, value) => {
    if (typeof value === "bigint") w.attrIP(type, value);
  },
};

export function field<M, K extends keyof M>(key: K, type: number, codec: Codec<NonNullable<M[K]>>): Field<M> {
  return {
    type,
    read(attributes, into) {
      const value = codec.read(attributes);
      if (value !== undefined) into[key] = value;
    },
    write(w, message) {
      const value = message[key];
      if (value !== undefined && value !== null) codec.write(w, type, value);
    },
  };
}

/** A kind's table, prepared for both directions. */
export class FieldTable<M> {
  readonly #fields: readonly Field<M>[];
  readonly #byType: ReadonlyMap<number, Field<M>>;

  constructor(fields: readonly Field<M>[]) {
    this.#fields = fields;
    this.#byType = new Map(fields.map((f) => [f.type, f]));
  }

  write(w: MessageWriter, message: M): void {
    for (const f of this.#fields) f.write(w, message);
  }

  /** Reads the current attribute. False: the table does not know its type. */
  read(attributes: AttributeReader, into: Partial<M>): boolean {
    const f = this.#byType.get(attributes.type);
    if (f === undefined) return false;
    f.read(attributes, into);
    return true;
  }

  /** Reads all attributes; unknown ones are skipped. */
  readAll(attributes: AttributeReader, into: Partial<M>): void {
    while (attributes.next()) this.read(attributes, into);
  }
}

function ofLength(attributes: AttributeReader, bytes: number): AttributeReader {
  if (attributes.length !== bytes) {
    throw new DecodeError(`Attribute ${attributes.type} holds an address of ${attributes.length} bytes, not ${bytes}`);
  }
  return attributes;
}

/** The fixed header of a message. @throws DecodeError when it is shorter than `bytes` */
export function headerView(payload: Uint8Array, bytes: number, struct: string): DataView {
  if (payload.length < bytes) throw new DecodeError(`struct ${struct} needs ${bytes} bytes, got ${payload.length}`);
  return new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
}
