// SPDX-License-Identifier: Apache-2.0
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { ensureCertificates } from "./certificates.ts";

const NOW = Date.UTC(2026, 0, 1);
const DECADE_MS = 3651 * 86_400_000;

function directory(): string {
  const dir = mkdtempSync(join(tmpdir(), "gingham-certs-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return join(dir, "pki");
}

describe("ensureCertificates", () => {
  it("makes a server certificate that its authority signed, for every name and address", () => {
    const { ca, cert, key } = ensureCertificates(undefined, ["10.0.0.1", "fd00::1", "api.example"], NOW);
    const [authority, server] = [new X509Certificate(ca), new X509Certificate(cert)];
    expect([authority.ca, server.ca]).toEqual([true, false]);
    expect(server.verify(authority.publicKey)).toBe(true);
    expect(server.checkIssued(authority)).toBe(true);
    for (const ip of ["127.0.0.1", "::1", "10.0.0.1", "fd00::1"]) expect(server.checkIP(ip)).toBe(ip);
    for (const name of ["localhost", "api.example"]) expect(server.checkHost(name)).toBe(name);
    expect(() => createSecureContext({ ca, cert, key })).not.toThrow();
  });

  it("keeps what is there, and makes anew only the server's when a host is missing or time is up", () => {
    const dir = directory();
    const first = ensureCertificates(dir, ["127.0.0.1"], NOW);
    expect(ensureCertificates(dir, ["127.0.0.1"], NOW)).toEqual(first);
    const moved = ensureCertificates(dir, ["10.0.0.1"], NOW);
    expect([moved.ca === first.ca, moved.cert === first.cert]).toEqual([true, false]);
    expect(ensureCertificates(dir, ["10.0.0.1"], NOW + DECADE_MS).cert).not.toBe(moved.cert);
  });

  it("keeps keys from other users", () => {
    const dir = directory();
    ensureCertificates(dir, [], NOW);
    for (const file of ["ca.key", "server.key"]) expect(statSync(join(dir, file)).mode & 0o777).toBe(0o600);
  });
});
