// SPDX-License-Identifier: Apache-2.0
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { isIP, isIPv4 } from "node:net";
import { join } from "node:path";
import { parseIPv6 } from "../net/ipv6.ts";
import * as der from "./der.ts";

/** All as PEM. */
export interface Certificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const DAY_MS = 86_400_000;
const LIFETIME_MS = 3650 * DAY_MS;

const OID = {
  commonName: "2.5.4.3",
  ecdsaWithSHA256: "1.2.840.10045.4.3.2",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
} as const;

/**
 * Reads ca.crt, server.crt and server.key of a directory. Makes what is missing: the authority is kept, so that
 * kubeconfigs stay valid when only the server's certificate is made again.
 *
 * Files are 0600. Without a directory everything is made anew and kept in memory.
 */
export function ensureCertificates(dir: string | undefined, hosts: readonly string[], nowMs: number): Certificates {
  if (dir === undefined) return makeCertificates(hosts, nowMs, makeAuthority(nowMs));
  const path = (name: string): string => join(dir, name);
  const read = (name: string): string => readFileSync(path(name), "utf8");
  const has = (...names: readonly string[]): boolean => names.every((name) => existsSync(path(name)));
  if (has("ca.crt", "server.crt", "server.key") && isUsable(read("server.crt"), hosts, nowMs)) {
    return { ca: read("ca.crt"), cert: read("server.crt"), key: read("server.key") };
  }
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const write = (name: string, content: string): void => writeFileSync(path(name), content, { mode: 0o600 });
  let authority: Authority;
  if (has("ca.crt", "ca.key") && isUsable(read("ca.crt"), [], nowMs))
    authority = { cert: read("ca.crt"), key: createPrivateKey(read("ca.key")) };
  else {
    authority = makeAuthority(nowMs);
    write("ca.crt", authority.cert);
    write("ca.key", pemOf(authority.key));
  }
  const made = makeCertificates(hosts, nowMs, authority);
  write("server.crt", made.cert);
  write("server.key", made.key);
  return made;
}

function isUsable(pem: string, hosts: readonly string[], nowMs: number): boolean {
  const certificate = new X509Certificate(pem);
  const isNamed = (host: string): boolean =>
    (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined;
  return certificate.validToDate.getTime() > nowMs && hosts.every(isNamed);
}

interface Authority {
  readonly cert: string;
  readonly key: KeyObject;
}

const AUTHORITY_NAME = "gingham-apiserver-ca";

function makeAuthority(nowMs: number): Authority {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const extensions = [
    extension(OID.basicConstraints, true, der.sequence(der.bool(true))),
    // keyCertSign and cRLSign.
    extension(OID.keyUsage, true, keyUsage(0x06, 1)),
    extension(OID.subjectKeyIdentifier, false, der.octets(keyIdentifier(publicKey))),
  ];
  const subject = { name: AUTHORITY_NAME, key: publicKey };
  return { key: privateKey, cert: certify(subject, extensions, privateKey, nowMs) };
}

function makeCertificates(hosts: readonly string[], nowMs: number, authority: Authority): Certificates {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const names = [...new Set(["localhost", "kubernetes", "kubernetes.default.svc", "127.0.0.1", "::1", ...hosts])];
  const extensions = [
    extension(OID.basicConstraints, true, der.sequence()),
    // digitalSignature.
    extension(OID.keyUsage, true, keyUsage(0x80, 7)),
    extension(OID.extKeyUsage, false, der.sequence(der.oid(OID.serverAuth))),
    extension(OID.subjectAltName, false, der.sequence(...names.map(alternativeName))),
    extension(
      OID.authorityKeyIdentifier,
      false,
      der.sequence(der.implicit(0, keyIdentifier(createPublicKey(authority.key)))),
    ),
  ];
  const subject = { name: "gingham-apiserver", key: publicKey };
  return { ca: authority.cert, cert: certify(subject, extensions, authority.key, nowMs), key: pemOf(privateKey) };
}

/** Builds and signs. Source: RFC 5280 4.1. */
function certify(
  subject: { readonly name: string; readonly key: KeyObject },
  extensions: readonly Uint8Array[],
  issuerKey: KeyObject,
  nowMs: number,
): string {
  const algorithm = der.sequence(der.oid(OID.ecdsaWithSHA256));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  const body = der.sequence(
    der.explicit(0, der.integer(Buffer.from([2]))),
    der.integer(serial),
    algorithm,
    distinguishedName(AUTHORITY_NAME),
    // An hour back, for clocks that differ.
    der.sequence(der.time(nowMs - 3_600_000), der.time(nowMs + LIFETIME_MS)),
    distinguishedName(subject.name),
    publicKeyInfo(subject.key),
    der.explicit(3, der.sequence(...extensions)),
  );
  const certificate = der.sequence(body, algorithm, der.bits(sign("sha256", body, issuerKey)));
  const lines = certificate.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

function distinguishedName(commonName: string): Buffer {
  return der.sequence(der.set(der.sequence(der.oid(OID.commonName), der.text(commonName))));
}

function extension(id: string, isCritical: boolean, value: Uint8Array): Buffer {
  const parts = isCritical ? [der.oid(id), der.bool(true), der.octets(value)] : [der.oid(id), der.octets(value)];
  return der.sequence(...parts);
}

function keyUsage(flags: number, unusedBits: number): Buffer {
  return der.tagged(0x03, Buffer.from([unusedBits, flags]));
}

/** Source: RFC 5280 4.2.1.6: dNSName is [2], iPAddress is [7]. */
function alternativeName(host: string): Buffer {
  if (isIP(host) === 0) return der.implicit(2, Buffer.from(host));
  return der.implicit(7, isIPv4(host) ? Buffer.from(host.split(".").map(Number)) : ipv6Bytes(host));
}

function ipv6Bytes(host: string): Buffer {
  return Buffer.from(parseIPv6(host).toString(16).padStart(32, "0"), "hex");
}

function publicKeyInfo(key: KeyObject): Buffer {
  return key.export({ type: "spki", format: "der" });
}

function keyIdentifier(key: KeyObject): Buffer {
  // Any unique value does (RFC 5280 4.2.1.2); this hashes the whole public key info.
  return createHash("sha1").update(publicKeyInfo(key)).digest();
}

function pemOf(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }).toString();
}
