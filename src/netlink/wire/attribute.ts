// SPDX-License-Identifier: Apache-2.0
import { type IP, ipFromBytes, ipToBytes } from "../../net/ip.ts";
import { type MAC, macFromBytes, macToBytes } from "../../net/mac.ts";
import { NLA_F_NESTED, NLA_TYPE_MASK } from "./constants.ts";
import { DecodeError } from "./errors.ts";

/**
 * Netlink speaks the host's byte order, except where a field is written with `BE`. Everything that Node 26 runs on and
 * this project supports is little endian, but the codec asks instead of assuming.
 */
export const LITTLE_ENDIAN: boolean = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

const HEADER_BYTES = 4;
const decoder = new TextDecoder("utf-8");
const encoder = new TextEncoder();

/** Rounds up to the next multiple of 4. Source: linux/netlink.h, NLMSG_ALIGN and NLA_ALIGN. */
export function align4(length: number): number {
  return (length + 3) & ~3;
}

/**
 * Walks the type-length-value attributes of one message, and reads the value of the current one.
 *
 * Shape: `next()` moves on, then `type` (flag bits masked off) and one of the value methods. Values are copies; the
 * bytes themselves stay the caller's. A value may be longer than what is read: kernels extend structures at the end.
 * Errors: every method throws DecodeError when the bytes end too early.
 * Source: linux/netlink.h, struct nlattr.
 */
export class AttributeReader {
  type = 0;
  #view: DataView;
  #bytes: Uint8Array;
  #next: number;
  #end: number;
  #value = 0;
  #length = 0;

  constructor(bytes: Uint8Array, start = 0, end: number = bytes.length) {
    if (start > end) throw new DecodeError(`Message of ${end} bytes is shorter than its header of ${start}`);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#next = start;
    this.#end = end;
  }

  /** Moves to the next attribute; false at the end. */
  next(): boolean {
    const at = this.#next;
    // Less than a header is padding, as the kernel's nla_ok() sees it.
    if (at + HEADER_BYTES > this.#end) return false;
    const length = this.#view.getUint16(at, LITTLE_ENDIAN);
    if (length < HEADER_BYTES || at + length > this.#end) {
      throw new DecodeError(`Attribute at offset ${at} has length ${length}, with ${this.#end - at} bytes left`);
    }
    this.type = this.#view.getUint16(at + 2, LITTLE_ENDIAN) & NLA_TYPE_MASK;
    this.#value = at + HEADER_BYTES;
    this.#length = length - HEADER_BYTES;
    this.#next = at + align4(length);
    return true;
  }

  /** Length of the current value. Units: bytes. */
  get length(): number {
    return this.#length;
  }

  u8(): number {
    return this.#view.getUint8(this.#need(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#need(2), LITTLE_ENDIAN);
  }

  u16BE(): number {
    return this.#view.getUint16(this.#need(2), false);
  }

  u32(): number {
    return this.#view.getUint32(this.#need(4), LITTLE_ENDIAN);
  }

  u32BE(): number {
    return this.#view.getUint32(this.#need(4), false);
  }

  i32(): number {
    return this.#view.getInt32(this.#need(4), LITTLE_ENDIAN);
  }

  /** Text up to its NUL, or to the end of the value. */
  string(): string {
    const bytes = this.bytes();
    const nul = bytes.indexOf(0);
    return decoder.decode(nul < 0 ? bytes : bytes.subarray(0, nul));
  }

  /** A view of the value, not a copy. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(this.#value, this.#value + this.#length);
  }

  /** An address of 4 or 16 bytes. */
  ip(): IP {
    if (this.#length !== 4 && this.#length !== 16) {
      throw new DecodeError(`Attribute ${this.type} holds an address of ${this.#length} bytes, not 4 or 16`);
    }
    return ipFromBytes(this.bytes());
  }

  /** An Ethernet address, or undefined for a hardware address of another size (tunnels carry 4 or 16 bytes here). */
  mac(): MAC | undefined {
    return this.#length === 6 ? macFromBytes(this.bytes()) : undefined;
  }

  /** The attributes inside the current value; `skip` bytes of a fixed header come first. */
  nested(skip = 0): AttributeReader {
    return new AttributeReader(this.bytes(), skip);
  }

  #need(bytes: number): number {
    if (this.#length < bytes) {
      throw new DecodeError(`Attribute ${this.type} has ${this.#length} bytes where ${bytes} are needed`);
    }
    return this.#value;
  }
}

/**
 * Appends fixed headers and attributes to one growing buffer that is used again and again: encoding ten thousand
 * routes allocates nothing per message.
 *
 * Shape: `bytes()` is a view of what was written since `reset()`, valid until the next write.
 */
export class MessageWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;

  constructor(capacityBytes = 4096) {
    this.#bytes = new Uint8Array(capacityBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#at;
  }

  reset(): void {
    this.#at = 0;
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  u8(value: number): void {
    const at = this.#take(1);
    this.#view.setUint8(at, value);
  }

  u16(value: number): void {
    const at = this.#take(2);
    this.#view.setUint16(at, value, LITTLE_ENDIAN);
  }

  u32(value: number): void {
    const at = this.#take(4);
    this.#view.setUint32(at, value, LITTLE_ENDIAN);
  }

  /** Overwrites a length written earlier. */
  patchU16(at: number, value: number): void {
    this.#view.setUint16(at, value, LITTLE_ENDIAN);
  }

  patchU32(at: number, value: number): void {
    this.#view.setUint32(at, value, LITTLE_ENDIAN);
  }

  /** Zeroes up to the next multiple of 4. */
  align(): void {
    const padding = align4(this.#at) - this.#at;
    if (padding > 0) {
      const at = this.#take(padding);
      this.#bytes.fill(0, at, at + padding);
    }
  }

  attrU8(type: number, value: number): void {
    this.#header(type, 1);
    this.u8(value);
    this.align();
  }

  attrU16(type: number, value: number): void {
    this.#header(type, 2);
    this.u16(value);
    this.align();
  }

  attrU16BE(type: number, value: number): void {
    this.#header(type, 2);
    const at = this.#take(2);
    this.#view.setUint16(at, value, false);
    this.align();
  }

  attrU32(type: number, value: number): void {
    this.#header(type, 4);
    this.u32(value);
  }

  attrU32BE(type: number, value: number): void {
    this.#header(type, 4);
    const at = this.#take(4);
    this.#view.setUint32(at, value, false);
  }

  /** Text with the NUL that the kernel's string policies expect. */
  attrString(type: number, value: string): void {
    const text = encoder.encode(value);
    this.#header(type, text.length + 1);
    this.#append(text);
    this.u8(0);
    this.align();
  }

  attrBytes(type: number, value: Uint8Array): void {
    this.#header(type, value.length);
    this.#append(value);
    this.align();
  }

  attrIP(type: number, ip: IP): void {
    if (typeof ip === "number") {
      this.#header(type, 4);
      const at = this.#take(4);
      this.#view.setUint32(at, ip, false);
    } else {
      this.attrBytes(type, ipToBytes(ip));
    }
  }

  attrMAC(type: number, mac: MAC): void {
    this.attrBytes(type, macToBytes(mac));
  }

  /** Writes an attribute whose value is what `write` appends. */
  attrNested(type: number, write: () => void): void {
    const start = this.#at;
    this.#header(type | NLA_F_NESTED, 0);
    write();
    this.patchU16(start, this.#at - start);
    this.align();
  }

  #header(type: number, valueBytes: number): void {
    this.u16(HEADER_BYTES + valueBytes);
    this.u16(type);
  }

  #append(bytes: Uint8Array): void {
    const at = this.#take(bytes.length);
    this.#bytes.set(bytes, at);
  }

  /** Makes room. It may replace buffer and view, so it comes before either is looked at. */
  #take(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#bytes.length * 2, at + bytes));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#at = at + bytes;
    return at;
  }
}
