// SPDX-License-Identifier: Apache-2.0
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeClock } from "../lib/fake-clock.ts";
import { Authenticator } from "./auth.ts";
import { clusterDefaults } from "./cluster-defaults.ts";
import { type CredentialRequest, nodeCredential } from "./credential.ts";
import { CredentialError } from "./errors.ts";
import { startFake } from "./fake-client.ts";
import { kubeconfig } from "./kubeconfig.ts";
import { followTokens, parseTokens } from "./tokens.ts";

let dir: string;
let request: CredentialRequest;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "gingham-credential-"));
  request = {
    node: "m2",
    tokenFile: join(dir, "tokens.csv"),
    adminKubeconfig: join(dir, "admin"),
    isRenewed: false,
  };
  writeFileSync(request.tokenFile, "# token,user,role,node\n0123456789,admin,admin", { mode: 0o600 });
  writeFileSync(request.adminKubeconfig, kubeconfig("https://10.0.0.1:6443", "the authority", "admin", "0123456789"));
});
afterEach(() => rmSync(dir, { recursive: true }));

interface Parsed {
  readonly clusters: readonly { readonly cluster: { readonly [field: string]: string } }[];
  readonly users: readonly { readonly user: { readonly token: string } }[];
}

function parse(text: string): { readonly server: string; readonly ca: string; readonly token: string } {
  const { clusters, users } = JSON.parse(text) as Parsed;
  const { server = "", "certificate-authority-data": ca = "" } = clusters[0]?.cluster ?? {};
  return { server, ca: Buffer.from(ca, "base64").toString(), token: users[0]?.user.token ?? "" };
}

describe("nodeCredential()", () => {
  it("adds a token of the node's own, and keeps what was there", () => {
    const made = parse(nodeCredential(request));
    expect(made).toMatchObject({ server: "https://10.0.0.1:6443", ca: "the authority" });
    expect(parseTokens(readFileSync(request.tokenFile, "utf8"))).toEqual([
      { token: "0123456789", user: "admin", role: "admin" },
      { token: made.token, user: "system:node:m2", role: "node", node: "m2" },
    ]);
    expect(statSync(request.tokenFile).mode & 0o777).toBe(0o600);
  });

  it("gives a node its own again, and another when asked to", () => {
    const first = nodeCredential(request);
    expect(nodeCredential(request)).toBe(first);
    const renewed = parse(nodeCredential({ ...request, isRenewed: true }));
    expect(renewed.token).not.toBe(parse(first).token);
    expect(parseTokens(readFileSync(request.tokenFile, "utf8")).map(({ token }) => token)).toEqual([
      "0123456789",
      renewed.token,
    ]);
  });

  it.each([
    ["a name that is no Node's", { node: "M 2" }, "is no name of a Node"],
    ["a server on loopback", { server: undefined }, "name it with --server"],
    ["a server that is none", { server: "10.0.0.1" }, "is no address of an API server"],
    ["no kubeconfig", { adminKubeconfig: "/nowhere/admin" }, "Cannot read /nowhere/admin"],
    ["no token file", { tokenFile: "/nowhere/tokens" }, "Cannot read /nowhere/tokens"],
  ])("refuses %s", (_what, change, message) => {
    writeFileSync(request.adminKubeconfig, kubeconfig("https://127.0.0.1:6443", "", "admin", "0123456789"));
    const wrong = { ...request, server: "https://10.0.0.1:6443", ...change } as CredentialRequest;
    expect(() => nodeCredential(wrong)).toThrow(CredentialError);
    expect(() => nodeCredential(wrong)).toThrow(message);
    expect(parseTokens(readFileSync(request.tokenFile, "utf8"))).toHaveLength(1);
  });

  it("leaves a JSON token file to people", () => {
    writeFileSync(request.tokenFile, "[]");
    expect(() => nodeCredential(request)).toThrow("is JSON");
  });
});

describe("a server that follows its token file", () => {
  it("knows a credential at once, forgets one that went, and keeps what it had when the file is spoiled", () => {
    const clock = new FakeClock();
    const problems: string[] = [];
    const source = followTokens(request.tokenFile, clock, (why) => problems.push(why));
    const authenticator = new Authenticator([], source);
    const isKnown = (token: string): boolean => authenticator.identify(`Bearer ${token}`) !== undefined;
    expect(isKnown("0123456789")).toBe(true);
    const { token } = parse(nodeCredential(request));
    expect(isKnown(token)).toBe(true);
    nodeCredential({ ...request, isRenewed: true });
    expect(isKnown("nobodys-token")).toBe(false);
    expect(isKnown(token)).toBe(false);
    appendFileSync(request.tokenFile, "short,u,admin\n");
    expect([isKnown("nobodys-token"), isKnown("0123456789"), problems.length]).toEqual([false, true, 1]);
  });
});

describe("clusterDefaults()", () => {
  it("makes what is not there, and leaves what somebody made or changed", async () => {
    const crds = ["ippools", "clusterinformations"].map((plural) => ({
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: `${plural}.crd.projectcalico.org` },
      spec: {
        group: "crd.projectcalico.org",
        scope: "Cluster",
        names: { plural, singular: plural, kind: plural === "ippools" ? "IPPool" : "ClusterInformation" },
        versions: [
          {
            name: "v1",
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
          },
        ],
      },
    }));
    const defaults = clusterDefaults(["10.244.0.0/16", "fd00:10::/112"], "CrossSubnet", "guid");
    const api = await startFake({ manifests: crds, defaults });
    const pools = await api.call("GET", "/apis/crd.projectcalico.org/v1/ippools");
    expect(pools.body.value).toMatchObject({
      items: [
        { metadata: { name: "default-ipv4-ippool" }, spec: { cidr: "10.244.0.0/16", natOutgoing: true } },
        { metadata: { name: "default-ipv6-ippool" }, spec: { cidr: "fd00:10::/112", natOutgoing: false } },
      ],
    });
    const pool = { ...(defaults[1] as object), metadata: { name: "mine" } };
    const other = await startFake({ manifests: [...crds, pool], defaults });
    expect((await other.call("GET", "/apis/crd.projectcalico.org/v1/ippools")).body.at("items")).toHaveLength(1);
    expect(
      (await other.call("GET", "/apis/crd.projectcalico.org/v1/clusterinformations/default")).body.value,
    ).toMatchObject({ spec: { datastoreReady: true } });
  });

  it.each([["10.0.0.0/33"], ["10.0.0.0/16", "10.1.0.0/16"], ["ten"]])("refuses %s", (...cidrs) => {
    expect(() => clusterDefaults(cidrs, "Never", "guid")).toThrow();
  });
});
