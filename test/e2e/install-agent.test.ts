// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeEnvelope } from "../../src/cni/server/envelope.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { BIN_DIR, CONF_DIR, type InstallHost, NODE, type Started, startInstallHost } from "./support/install-host.ts";
import { type Account, type Asked, installedObject, matches, rightsOfInstall, singleRights } from "./support/rights.ts";

/**
 * One node as manifests/install.yaml makes it: init container, agent and controller with the DaemonSet's variables, and on an API
 * server that gives them the manifest's rights and no others.
 */

const ROOT = join(import.meta.dirname, "../..");
const NODE_FLAGS = "--disable-warning=ExperimentalWarning";
const CALICO = '{"cniVersion":"0.3.1","name":"k8s-pod-network","plugins":[{"type":"calico"}]}';
const OWN = `${CONF_DIR}/10-gingham.conflist`;
const FIRST = `${CONF_DIR}/05-gingham.conflist`;
const DEAD_BLOCK = "10.44.0.128/26";
const RIGHTS_LOG = "/run/log/rights";

let host: InstallHost;
let agent: Started;

beforeAll(async () => {
  host = await startInstallHost();
  const server = host.start([
    process.execPath,
    NODE_FLAGS,
    join(ROOT, "test/e2e/support/rights-server.ts"),
    "/run/kubeconfig",
    RIGHTS_LOG,
  ]);
  await waitUntil("the API server", async () => server.log().includes("serving"), 10_000).catch((error: unknown) => {
    throw new Error(server.log(), { cause: error });
  });
  await host.ok(`echo '${CALICO}' > ${CONF_DIR}/10-calico.conflist`);
  await apply(clusterObjects());
  await kubectl(`create --validate=false -f - <<'EOF'\n${JSON.stringify(deadBlock())}\nEOF`);
  const { conflist } = installedObject("ConfigMap")["data"] as { conflist: string };
  await host.ok(`mkdir -p /etc/gingham/cni; cat > /etc/gingham/cni/conflist <<'EOF'\n${conflist}\nEOF`);
}, 120_000);
afterAll(() => host.stop());

async function apply(objects: readonly object[]): Promise<void> {
  const list = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
  await kubectl(`apply --server-side -f - <<'EOF'\n${list}\nEOF`);
}

async function kubectl(args: string): Promise<string> {
  return await host.ok(`kubectl --kubeconfig /run/kubeconfig --cache-dir /run/cache ${args}`);
}

function clusterObjects(): readonly object[] {
  const calico = (kind: string, name: string, spec: object) => ({
    apiVersion: "crd.projectcalico.org/v1",
    kind,
    metadata: { name },
    spec,
  });
  const node = (name: string, ip: string) => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name },
    spec: { taints: [{ key: "gingham.dev/agent-not-ready", effect: "NoSchedule" }] },
    status: { addresses: [{ type: "InternalIP", address: ip }] },
  });
  const namespace = (name: string) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
  return [
    namespace("gingham-system"),
    node(NODE.name, NODE.ip),
    node("node-2", "172.29.9.12"),
    calico("IPPool", "pool", { cidr: "10.44.0.0/24", blockSize: 26, vxlanMode: "Always", nodeSelector: "all()" }),
    calico("ClusterInformation", "default", { datastoreReady: true }),
    calico("IPAMConfig", "default", {
      strictAffinity: false,
      autoAllocateBlocks: true,
      maxBlocksPerHost: 0,
      ipCooldownSeconds: 1,
    }),
    calico("KubeControllersConfiguration", "default", { controllers: { node: { leakGracePeriod: "2s" } } }),
    calico("BlockAffinity", "node-2-10-44-0-128-26", {
      cidr: DEAD_BLOCK,
      node: "node-2",
      state: "confirmed",
      deleted: "false",
    }),
    calico("IPAMHandle", "net.dead", { handleID: "net.dead", block: { [DEAD_BLOCK]: 1 }, deleted: false }),
  ];
}

/** Of node-2, with the address of a pod. kubectl takes no null in a list from `apply`. */
function deadBlock(): object {
  const secondary = { node: "node-2", namespace: "default", pod: "gone" };
  const spec = {
    cidr: DEAD_BLOCK,
    affinity: "host:node-2",
    allocations: [0, ...Array.from({ length: 63 }, () => null)],
    unallocated: Array.from({ length: 63 }, (_, i) => i + 1),
    attributes: [{ handle_id: "net.dead", secondary }],
    sequenceNumber: 2,
    sequenceNumberForAllocation: { "0": 1 },
    deleted: false,
    strictAffinity: false,
  };
  return { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMBlock", metadata: { name: "10-44-0-128-26" }, spec };
}

function startAgent(...options: readonly string[]): Started {
  return host.container("agent", [process.execPath, NODE_FLAGS, join(ROOT, "dist/agent.mjs"), ...options]);
}

async function readiness(): Promise<{ ok: boolean; checks: Record<string, { ok: boolean; detail: string }> }> {
  const { stdout } = await host.sh("curl -s -m 2 http://127.0.0.1:9099/readiness || true");
  return stdout === "" ? { ok: false, checks: {} } : (JSON.parse(stdout) as Awaited<ReturnType<typeof readiness>>);
}

async function untilAgent(
  what: string,
  ask: (report: Awaited<ReturnType<typeof readiness>>) => boolean,
): Promise<void> {
  await waitUntil(`the agent to be ${what}`, async () => ask(await readiness()), 30_000).catch(
    async (error: unknown) => {
      throw new Error(`${JSON.stringify(await readiness())}\n${agent.log()}`, { cause: error });
    },
  );
}

async function confFiles(): Promise<string[]> {
  return (await host.ok(`ls -A ${CONF_DIR}`)).trim().split("\n");
}

interface Result {
  readonly ips?: readonly { readonly address: string }[];
}

/** What the runtime does with the first configuration of the folder. */
async function call(verb: "ADD" | "DEL", name: string): Promise<Result> {
  const { plugins, ...list } = JSON.parse(await host.ok(`cat ${CONF_DIR}/*gingham.conflist`)) as { plugins: object[] };
  const conf = JSON.stringify({ ...list, ...plugins[0] });
  const env = `CNI_COMMAND=${verb} CNI_CONTAINERID=${name} CNI_NETNS=/run/netns/${name} CNI_IFNAME=eth0 CNI_PATH=${BIN_DIR}`;
  const make = verb === "ADD" ? `ip netns add ${name}; ` : "";
  const args = `CNI_ARGS='K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name}'`;
  const stdout = await host.ok(`${make}echo '${conf}' | env ${env} ${args} ${BIN_DIR}/gingham`);
  return stdout === "" ? {} : (JSON.parse(stdout) as Result);
}

function pod(name: string): object {
  const spec = { nodeName: NODE.name, containers: [{ name: "a", image: "b" }] };
  return { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default" }, spec };
}

describe("a node as the manifests make it", () => {
  test("gets its programs from the init container", async () => {
    const init = host.container("install", [
      process.execPath,
      join(ROOT, "dist/install.mjs"),
      "--plugins-dir",
      "/usr/lib/cni",
    ]);
    expect({ exitCode: await init.ended, log: init.log() }).toMatchObject({ exitCode: 0 });
    expect((await host.ok(`ls ${BIN_DIR}`)).split("\n")).toEqual(
      expect.arrayContaining(["gingham", "portmap", "bandwidth"]),
    );
  });

  test("has its network configuration when the agent serves, before another network's, in the version that all plugins speak", async () => {
    agent = startAgent();
    await untilAgent("ready", ({ ok }) => ok);
    expect(await confFiles()).toEqual(["05-gingham.conflist", "10-calico.conflist"]);
    expect(await host.ok(`stat -c %a ${FIRST}`)).toBe("600\n");
    expect(JSON.parse(await host.ok(`cat ${FIRST}`))).toMatchObject({
      cniVersion: "1.0.0",
      plugins: [{ type: "gingham" }, { type: "portmap" }, { type: "bandwidth" }],
    });
    const lines = agent.log().split("\n");
    const at = (text: string): number => lines.findIndex((line) => line.includes(text));
    expect(at("Serving CNI")).toBeGreaterThan(0);
    expect(at("Network configuration changed")).toBeGreaterThan(at("Serving CNI"));
    expect(await host.ok(`cat ${CONF_DIR}/10-calico.conflist`)).toBe(`${CALICO}\n`);
  });

  test("has it back when somebody deletes or changes it, and by its own name when the other network has gone", async () => {
    const text = await host.ok(`cat ${FIRST}`);
    await host.ok(`rm ${FIRST}`);
    await waitUntil("the file to be back", async () => (await confFiles()).includes("05-gingham.conflist"), 20_000);
    await host.ok(`echo '{' > ${FIRST}`);
    await waitUntil("the file to be mended", async () => (await host.sh(`cat ${FIRST}`)).stdout === text, 20_000);
    await host.ok(`rm ${CONF_DIR}/10-calico.conflist`);
    await waitUntil("its own name", async () => (await confFiles()).join() === "10-gingham.conflist", 20_000);
  });

  test("says what the disk refuses, pods are made all the same, and the file follows when it can", async () => {
    await apply([pod("one")]);
    const before = await host.ok(`cat ${OWN}`);
    const untilTold = (words: string): Promise<void> =>
      untilAgent(
        "told",
        ({ checks }) => checks["networkConfig"]?.detail.startsWith(`Cannot write ${OWN}: ${words}`) === true,
      );
    const change = 'sed -i \'s/"plugins"/"disableCheck": true, &/\' /etc/gingham/cni/conflist';
    await host.ok(`mount -o remount,ro ${CONF_DIR}; ${change}`);
    await untilTold(
      "the file system is read-only; name a folder that can be written to (--cni-conf-dir, GINGHAM_CNI_CONF_DIR)",
    );
    expect((await call("ADD", "one")).ips?.[0]?.address).toMatch(/^10\.44\.0\./);
    await host.ok(`mount -o remount,rw,size=16k ${CONF_DIR}; head -c 1M /dev/zero > ${CONF_DIR}/full || true`);
    // Where an administrator looks, and the operator.
    const path = `jsonpath={.status.conditions[?(@.type=="NetworkDegraded")].message}`;
    const nodeSays = async (): Promise<string> => await kubectl(`get node ${NODE.name} -o '${path}'`);
    await waitUntil("the Node to say so", async () => (await nodeSays()).includes(`Cannot write ${OWN}: `), 30_000);
    await untilTold("the disk is full; make room there (--cni-conf-dir, GINGHAM_CNI_CONF_DIR)");
    // Nothing half-made: the old one, whole.
    expect(await host.ok(`cat ${OWN}`)).toBe(before);
    await host.ok(`rm ${CONF_DIR}/full`);
    await untilAgent("content", ({ checks }) => checks["networkConfig"]?.ok === true);
    await waitUntil("the Node to be content", async () => (await nodeSays()) === "", 20_000);
    expect(await confFiles()).toEqual(["10-gingham.conflist"]);
    expect(JSON.parse(await host.ok(`cat ${OWN}`))).toMatchObject({ disableCheck: true });
  });

  test("keeps its file while the agent is replaced, and a call waits for the next one", async () => {
    await agent.stop();
    expect(await confFiles()).toEqual(["10-gingham.conflist"]);
    await apply([pod("two")]);
    const waiting = call("ADD", "two");
    agent = startAgent();
    expect((await waiting).ips).toHaveLength(1);
    await untilAgent("ready", ({ ok }) => ok);
    for (const name of ["one", "two"]) await call("DEL", name);
  });

  test("is ready without a free address and without a peer", async () => {
    await kubectl(`patch ippool pool --type merge -p '{"spec":{"disabled":true}}'`);
    await agent.stop();
    agent = startAgent();
    await untilAgent("ready", ({ ok }) => ok);
    await apply([pod("late")]);
    await expect(call("ADD", "late")).rejects.toThrow();
    await host.ok("ip netns delete late");
    await kubectl(`patch ippool pool --type merge -p '{"spec":{"disabled":false}}'`);
    await waitUntil("the tunnel's address", async () => (await host.ok("ip addr")).includes("inet 10.44.0."), 10_000);
    expect((await call("ADD", "late")).ips).toHaveLength(1);
    await call("DEL", "late");
  });
});

describe("versions that meet during a roll-out", () => {
  test.each([
    ["a launcher from before calls had names", {}],
    ["a launcher that says more than the agent knows", { GINGHAM_CALL: "00000000000000000001-7", GINGHAM_LATER: "1" }],
  ])("the agent answers %s", async (_what, more) => {
    await apply([pod("three")]);
    await host.ok("ip netns add three");
    const ask = async (verb: "ADD" | "DEL"): Promise<string> => {
      const conf = { cniVersion: "1.0.0", name: "k8s-pod-network", type: "gingham", ipam: { type: "gingham-ipam" } };
      const env = {
        CNI_COMMAND: verb,
        CNI_CONTAINERID: "three",
        CNI_NETNS: "/run/netns/three",
        CNI_IFNAME: "eth0",
        CNI_PATH: BIN_DIR,
        CNI_ARGS: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=three",
        ...more,
      };
      const envelope = Buffer.from(encodeEnvelope({ env, stdin: JSON.stringify(conf) })).toString("base64");
      const curl = "curl -sf --unix-socket /run/gingham/agent.sock --data-binary @- http://agent/cni";
      return await host.ok(`echo ${envelope} | base64 -d | ${curl}`);
    };
    expect(JSON.parse(await ask("ADD"))).toMatchObject({
      ips: [{ address: expect.stringMatching(/^10\.44\.0\./) as string }],
    });
    expect(await ask("DEL")).toBe("");
    await host.ok("ip netns delete three");
  });
});

/** Rights that this test does not get anybody to use. */
const UNUSED: Readonly<Record<Account, readonly string[]>> = {
  "gingham-agent": [
    // A pool that is almost full: blocks of others are taken over and watched for borrowed addresses, which a Node announces.
    "delete blockaffinities",
    "delete ipamblocks",
    "get blockaffinities",
    "patch nodes/status",
    "watch ipamblocks",
    // A namespace that the watch has not shown yet.
    "get namespaces",
    // The collector of the agent begins when it has run for a while.
    "list ipamhandles",
  ],
  "gingham-controller": [],
};

describe("the rights of manifests/install.yaml", () => {
  let asked: readonly (Asked & { readonly account: Account; readonly allowed: boolean })[];

  beforeAll(async () => {
    const controller = host.start([
      "env",
      "KUBECONFIG=/run/kubeconfig",
      "GINGHAM_LEASE_NAMESPACE=gingham-system",
      process.execPath,
      NODE_FLAGS,
      join(ROOT, "dist/controller.mjs"),
    ]);
    await kubectl("delete node node-2");
    const left = "get ipamblocks,blockaffinities,ipamhandles -o name";
    const isFreed = async (): Promise<boolean> => !/128|dead/.test(await kubectl(left));
    await waitUntil("the controller to free what node-2 had", isFreed, 40_000).catch((error: unknown) => {
      throw new Error(controller.log(), { cause: error });
    });
    const ask = async (what: string): Promise<boolean> => (await host.ok(`cat ${RIGHTS_LOG}`)).includes(what);
    await waitUntil("an Event", () => ask('"verb":"create","group":"","resource":"events"'), 20_000);
    asked = (await host.ok(`cat ${RIGHTS_LOG}`))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Asked & { account: Account; allowed: boolean });
  }, 60_000);

  test.each(["gingham-agent", "gingham-controller"] as const)("are enough for %s, and it uses them all", (account) => {
    const own = asked.filter((one) => one.account === account);
    expect(own.filter(({ allowed }) => !allowed)).toEqual([]);
    const unused = singleRights(rightsOfInstall()[account]).filter((right) => !own.some((one) => matches(right, one)));
    expect(unused.map(({ verb, resource }) => `${verb} ${resource}`).toSorted()).toEqual(UNUSED[account].toSorted());
  });

  test("are what docs/install.md says", () => {
    const text = readFileSync(join(ROOT, "docs/install.md"), "utf8");
    for (const account of ["gingham-agent", "gingham-controller"] as const) {
      const section = text.slice(text.indexOf(`### ${account}\n`)).split("\n##")[0] ?? "";
      const rows = [...section.matchAll(/^\| ([^|]+) \| ([a-z, ]+) \| [^|]+ \|$/gm)];
      const documented = rows.flatMap(([, resources = "", verbs = ""]) =>
        resources.split(", ").flatMap((resource) => verbs.split(", ").map((verb) => `${verb} ${resource}`)),
      );
      const granted = singleRights(rightsOfInstall()[account]).map(({ verb, resource, names, namespace }) => {
        const where =
          names === undefined ? (namespace === undefined ? "" : ` in \`${namespace}\``) : ` \`${names.join()}\``;
        return `${verb} ${resource}${where}`;
      });
      expect(documented.filter((line) => !line.startsWith("verbs ")).toSorted()).toEqual(granted.toSorted());
    }
  });
});

describe("gingham node clean", () => {
  test("takes away what was installed, and gives another network's configuration its name back", async () => {
    await agent.stop();
    await host.ok(
      `echo '${CALICO}' > ${CONF_DIR}/10-calico.conflist; echo other > ${BIN_DIR}/other; echo mine > ${BIN_DIR}/tuning`,
    );
    agent = startAgent("--cni-others", "rename");
    await untilAgent("ready", ({ ok }) => ok);
    expect(await confFiles()).toEqual(["10-calico.conflist.gingham-bak", "10-gingham.conflist"]);
    await agent.stop();
    const clean = host.container("agent", [
      process.execPath,
      NODE_FLAGS,
      join(ROOT, "dist/cli.mjs"),
      "node",
      "clean",
      "--yes",
    ]);
    expect({ exitCode: await clean.ended, log: clean.log() }).toMatchObject({ exitCode: 0 });
    expect(await confFiles()).toEqual(["10-calico.conflist"]);
    expect(await host.ok(`cat ${CONF_DIR}/10-calico.conflist`)).toBe(`${CALICO}\n`);
    // What is another's, or has been changed since, stays.
    expect((await host.ok(`ls ${BIN_DIR}`)).trim().split("\n")).toEqual(["other", "tuning"]);
    expect(await host.ok("ls -A /var/lib; ip route show proto 80; ip -o link show type vxlan; nft list tables")).toBe(
      "",
    );
  });
});
