// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../lib/fake-clock.ts";
import { KubeConfigError } from "./errors.ts";
import { loadKubeConfig } from "./kube-config.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kube-config-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const base64 = (text: string): string => Buffer.from(text).toString("base64");

function kubeconfig(user: object, cluster: object = {}): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "here",
    contexts: [{ name: "here", context: { cluster: "c", user: "u", namespace: "ns" } }],
    clusters: [{ name: "c", cluster: { server: "https://192.0.2.1:6443", ...cluster } }],
    users: [{ name: "u", user }],
  });
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe("in a cluster", () => {
  const env = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "443" };

  test("address, CA, namespace and token are the service account's", async () => {
    write("ca.crt", "CA");
    write("namespace", "kube-system\n");
    write("token", "t1\n");
    const credentials = await loadKubeConfig({ env, serviceAccountPath: folder, clock: new FakeClock() });
    expect(credentials.server.href).toBe("https://[fd00::1]/");
    expect(credentials.namespace).toBe("kube-system");
    expect(credentials.tls()).toEqual({ ca: "CA" });
    expect(await credentials.headers()).toEqual({ authorization: "Bearer t1" });
  });

  test("several addresses are several servers, in their order, at one port", async () => {
    for (const name of ["ca.crt", "namespace", "token"]) write(name, name);
    const load = async (hosts: string): Promise<readonly string[]> => {
      const several = { KUBERNETES_SERVICE_HOST: hosts, KUBERNETES_SERVICE_PORT: "6443" };
      const credentials = await loadKubeConfig({ env: several, serviceAccountPath: folder, clock: new FakeClock() });
      return [credentials.server, ...(credentials.otherServers ?? [])].map(({ host }) => host);
    };
    expect(await load("192.0.2.1")).toEqual(["192.0.2.1:6443"]);
    expect(await load("192.0.2.1, api.example,fd00::1,")).toEqual([
      "192.0.2.1:6443",
      "api.example:6443",
      "[fd00::1]:6443",
    ]);
    for (const wrong of ["192.0.2.1 192.0.2.2", "192.0.2.1,https://api", "192.0.2.1:6443"])
      expect(await failure(load(wrong)), wrong).toMatchObject({
        code: "KubeConfig",
        message: expect.stringMatching(/KUBERNETES_SERVICE_HOST .*want addresses or names/) as string,
      });
  });

  test("a token that kubelet rotates by a symbolic link is seen within seconds", async () => {
    for (const version of ["v1", "v2"]) write(`token-${version}`, version);
    write("ca.crt", "CA");
    write("namespace", "ns");
    symlinkSync("token-v1", join(folder, "token"));
    const clock = new FakeClock();
    const credentials = await loadKubeConfig({ env, serviceAccountPath: folder, clock });
    symlinkSync("token-v2", join(folder, "next"));
    renameSync(join(folder, "next"), join(folder, "token"));
    expect(await credentials.headers()).toEqual({ authorization: "Bearer v1" });
    await clock.advance(3_000);
    expect(await credentials.headers()).toEqual({ authorization: "Bearer v2" });
  });

  test("refresh() sees a new token at once, and a missing one leaves the old in force", async () => {
    write("ca.crt", "CA");
    write("namespace", "ns");
    const token = write("token", "v1");
    const credentials = await loadKubeConfig({ env, serviceAccountPath: folder, clock: new FakeClock() });
    writeFileSync(token, "longer");
    credentials.refresh();
    expect(await credentials.headers()).toEqual({ authorization: "Bearer longer" });
    rmSync(token);
    credentials.refresh();
    expect(await credentials.headers()).toEqual({ authorization: "Bearer longer" });
  });

  test("without the variables or the files the error says what is missing", async () => {
    expect(await failure(loadKubeConfig({ env: {} }))).toMatchObject({
      code: "KubeConfig",
      message: expect.stringContaining("KUBERNETES_SERVICE_HOST is not set") as string,
    });
    expect(await failure(loadKubeConfig({ env, serviceAccountPath: folder }))).toMatchObject({
      message: expect.stringContaining(join(folder, "namespace")) as string,
    });
  });
});

describe("a kubeconfig", () => {
  test("may be YAML, with data inline", async () => {
    const kubeconfigPath = write(
      "config.yaml",
      `
apiVersion: v1
kind: Config
current-context: here
contexts:
- {name: here, context: {cluster: c, user: u}}
clusters:
- name: c
  cluster:
    server: http://127.0.0.1:8001/prefix
    certificate-authority-data: ${base64("CA")}
    tls-server-name: kubernetes
users:
- name: u
  user:
    client-certificate-data: ${base64("CERT")}
    client-key-data: ${base64("KEY")}
`,
    );
    const credentials = await loadKubeConfig({ kubeconfigPath });
    expect(credentials.server.href).toBe("http://127.0.0.1:8001/prefix");
    expect(credentials.namespace).toBeUndefined();
    expect(credentials.tls()).toEqual({ ca: "CA", cert: "CERT", key: "KEY", servername: "kubernetes" });
    expect(await credentials.headers()).toEqual({});
  });

  test.each([
    [{ token: "t" }, { authorization: "Bearer t" }],
    [{ username: "me", password: "pw" }, { authorization: `Basic ${base64("me:pw")}` }],
    [{ username: "me", token: "t" }, { authorization: "Bearer t" }],
    [{}, {}],
  ])("user %j gives headers %j", async (user, headers) => {
    const credentials = await loadKubeConfig({ kubeconfigPath: write("config", kubeconfig(user)) });
    expect(await credentials.headers()).toEqual(headers);
    expect(credentials.namespace).toBe("ns");
  });

  test("paths are relative to the file; certificates and tokens rotate with their files", async () => {
    write("ca.pem", "CA1");
    write("t", "token-1");
    const clock = new FakeClock();
    const text = kubeconfig(
      { tokenFile: "t", token: "old" },
      { "certificate-authority": "ca.pem", "insecure-skip-tls-verify": false },
    );
    const credentials = await loadKubeConfig({ kubeconfigPath: write("config", text), clock });
    const before = credentials.tls();
    expect(before).toEqual({ ca: "CA1" });
    expect(await credentials.headers()).toEqual({ authorization: "Bearer token-1" });
    write("ca.pem", "CA-2");
    write("t", "token-22");
    expect(credentials.tls()).toBe(before);
    await clock.advance(3_000);
    expect(credentials.tls()).toEqual({ ca: "CA-2" });
    expect(await credentials.headers()).toEqual({ authorization: "Bearer token-22" });
  });

  test("one that is rewritten is followed; a half-written one is not", async () => {
    const clock = new FakeClock();
    const kubeconfigPath = write("config", kubeconfig({ token: "one" }));
    const credentials = await loadKubeConfig({ kubeconfigPath, clock });
    writeFileSync(kubeconfigPath, '{"current-context": "he');
    await clock.advance(3_000);
    expect(await credentials.headers()).toEqual({ authorization: "Bearer one" });
    writeFileSync(kubeconfigPath, kubeconfig({ token: "three" }));
    await clock.advance(3_000);
    expect(await credentials.headers()).toEqual({ authorization: "Bearer three" });
  });

  test("insecure-skip-tls-verify switches verification off", async () => {
    const kubeconfigPath = write("config", kubeconfig({}, { "insecure-skip-tls-verify": true }));
    expect((await loadKubeConfig({ kubeconfigPath })).tls()).toEqual({ rejectUnauthorized: false });
  });

  test("a credential plugin is run by KubeConfig, and again after refresh()", async () => {
    const counter = write("count", "");
    const status = { token: "from-plugin" };
    const answer = JSON.stringify({ apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status });
    const command = write("plugin.sh", `echo x >> ${counter}\ncat <<'END'\n${answer}\nEND\n`);
    const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "/bin/sh", args: [command] };
    const kubeconfigPath = write("config", kubeconfig({ exec }, { "certificate-authority-data": base64("CA") }));
    const clock = new FakeClock();
    const credentials = await loadKubeConfig({ kubeconfigPath, clock });
    expect(await credentials.headers()).toEqual({ authorization: "Bearer from-plugin" });
    expect(credentials.tls()).toEqual({ ca: "CA" });
    expect(credentials.proxyAgent).toBeUndefined();
    writeFileSync(command, `cat <<'END'\n${answer.replace("from-plugin", "newer")}\nEND\n`);
    await clock.advance(3_000);
    expect(await credentials.headers()).toEqual({ authorization: "Bearer from-plugin" });
    credentials.refresh();
    expect(await credentials.headers()).toEqual({ authorization: "Bearer newer" });
  });

  test("a proxy comes as KubeConfig's agent", async () => {
    const kubeconfigPath = write("config", kubeconfig({ token: "t" }, { "proxy-url": "http://192.0.2.9:3128" }));
    const credentials = await loadKubeConfig({ kubeconfigPath });
    expect(credentials.proxyAgent).toBeDefined();
    expect(await credentials.headers()).toEqual({ authorization: "Bearer t" });
  });

  test.each([
    ["not there", undefined, "Cannot read"],
    ["neither YAML nor JSON", "{", "neither YAML nor JSON"],
    ["a list", "- 1", "no kubeconfig"],
    ["without a context", "kind: Config", "no current-context"],
    ["with an unknown context", "current-context: x", 'contexts has no entry named "x"'],
    ["with a server that is no URL", kubeconfig({}, { server: "ftp://x" }), 'cluster c is "ftp://x"'],
    ["with a token file that is not there", kubeconfig({ tokenFile: "nowhere" }), "nowhere"],
  ])("%s is an error that names the file", async (_, text, message) => {
    const kubeconfigPath = text === undefined ? join(folder, "config") : write("config", text);
    const error = await failure(loadKubeConfig({ kubeconfigPath }));
    expect(error).toBeInstanceOf(KubeConfigError);
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).toContain(folder);
  });
});
