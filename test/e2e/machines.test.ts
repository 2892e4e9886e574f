// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { waitUntil } from "./support/containerd-machine.ts";
import { type Daemon, type Machine, type Machines, startMachines } from "./support/machines.ts";

/**
 * docs/machines.md: three machines without Kubernetes form one pod network out of one API server, from the units and files
 * of the release alone.
 */

const MACHINES_MD = readFileSync("docs/machines.md", "utf8");
let all: Machines;
let m1: Machine;
let m2: Machine;
let m3: Machine;
const units = new Map<string, Daemon>();
/** Of m3, before anything was started there. */
let untouched: readonly string[];

beforeAll(async () => {
  all = await startMachines(3);
  [m1, m2, m3] = all.machines as [Machine, Machine, Machine];
  untouched = await stateOf(m3);
}, 60_000);
afterAll(() => all.stop());

/** Links, addresses, routes, rules, firewall, and the files in the folders of agent and runtime. */
async function stateOf(machine: Machine): Promise<readonly string[]> {
  const text = await machine.ok(`
    ip -br addr; ip -4 route show table all; ip -6 route show table main; ip -4 rule; ip -6 rule
    nft list ruleset
    find /etc/cni /var/lib/gingham /run/gingham /run/netns /opt/cni/bin -type f -o -type l 2>/dev/null | xargs -r ls -l --time-style=+`);
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

async function start(machine: Machine, unit: string): Promise<void> {
  units.set(`${machine.name}/${unit}`, await machine.startUnit(unit));
}

function logOf(machine: Machine, unit: string): string {
  return units.get(`${machine.name}/${unit}`)?.log() ?? "";
}

async function isReady(machine: Machine): Promise<boolean> {
  const { stdout } = await machine.sh("curl -s -m 2 localhost:9099/readiness -o /dev/null -w '%{http_code}' || true");
  return stdout === "200";
}

/** As the doc's `ctr run --cni`: no pod, no arguments. */
async function container(machine: Machine, verb: "ADD" | "DEL", name: string): Promise<string> {
  const env = `CNI_COMMAND=${verb} CNI_CONTAINERID=default-${name} CNI_NETNS=/run/netns/${name} CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin`;
  const list = JSON.parse(await machine.ok("cat /etc/cni/net.d/10-gingham.conflist")) as { plugins: object[] };
  const conf = { ...list, ...list.plugins[0], plugins: undefined };
  const make = verb === "ADD" ? `ip netns add ${name}` : ":";
  const stdout = await machine.ok(`${make}; echo '${JSON.stringify(conf)}' | env ${env} /opt/cni/bin/gingham`);
  if (verb === "DEL") return "";
  const { ips } = JSON.parse(stdout) as { ips: { address: string }[] };
  return (ips[0]?.address ?? "").replace("/32", "");
}

async function kubectl(
  machine: Machine,
  kubeconfig: string,
  args: string,
): Promise<{ exitCode: number; text: string }> {
  const { exitCode, stdout, stderr } = await machine.sh(
    `kubectl --kubeconfig ${kubeconfig} --cache-dir /run/cache ${args}`,
  );
  return { exitCode, text: stdout + stderr };
}

describe("three machines without Kubernetes", () => {
  test("systemd finds no fault with the units", async () => {
    const { exitCode, stderr } = await m1.sh(
      "systemd-analyze verify --man=no /usr/lib/systemd/system/gingham-*.service",
    );
    const ours = stderr.split("\n").filter((line) => line.includes("gingham"));
    expect({ ours, exitCode }).toEqual({ ours: [], exitCode: 0 });
  });

  test("one runs the API server, which makes the pool and a credential for each", async () => {
    await m1.ok(
      `sed 's/^LISTEN=.*/LISTEN=${m1.ip}:6443/' /usr/share/gingham/apiserver.env > /etc/gingham/apiserver.env`,
    );
    await start(m1, "gingham-apiserver");
    await waitUntil(
      "the API server",
      async () => (await kubectl(m1, "/etc/gingham/admin.kubeconfig", "get ippools")).text.includes("10.244.0.0/16"),
      20_000,
    );
    // By default it takes the controller 15 minutes to believe that a machine is gone.
    const grace = {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "KubeControllersConfiguration",
      metadata: { name: "default" },
      spec: { controllers: { node: { leakGracePeriod: "4s" } } },
    };
    await m1.ok(`echo '${JSON.stringify(grace)}' | kubectl --kubeconfig /etc/gingham/admin.kubeconfig create -f -`);
    await start(m1, "gingham-controller");
    for (const machine of all.machines) {
      const credential = await m1.ok(`gingham-apiserver credential --node ${machine.name}`);
      expect(await machine.sh("umask 077; cat > /etc/gingham/kubeconfig", { input: credential })).toMatchObject({
        exitCode: 0,
      });
    }
  });

  test("their agents make their Nodes and become ready", async () => {
    for (const machine of all.machines) await start(machine, "gingham-agent");
    for (const machine of all.machines) {
      await waitUntil(`the agent of ${machine.name}`, () => isReady(machine), 30_000).catch((error: unknown) => {
        throw new Error(logOf(machine, "gingham-agent"), { cause: error });
      });
      const isWritten = async (): Promise<boolean> =>
        (await machine.sh("test -e /etc/cni/net.d/10-gingham.conflist")).exitCode === 0;
      await waitUntil(`the network configuration of ${machine.name}`, isWritten, 20_000);
    }
    const { text } = await kubectl(m1, "/etc/gingham/admin.kubeconfig", "get nodes -o json");
    const { items } = JSON.parse(text) as {
      items: { metadata: { name: string; annotations: Record<string, string> } }[];
    };
    expect(items.map(({ metadata }) => [metadata.name, metadata.annotations["projectcalico.org/IPv4Address"]])).toEqual(
      all.machines.map(({ name, ip }) => [name, `${ip}/24`]),
    );
    const [, columns = ""] = /`kubectl get nodes -o '(custom-columns=.*)'`/.exec(MACHINES_MD) ?? [];
    const health = async (): Promise<readonly string[]> => {
      const table = await kubectl(m1, "/etc/gingham/admin.kubeconfig", `get nodes --no-headers -o '${columns}'`);
      return table.text.trim().replaceAll(/ +/g, " ").split("\n");
    };
    const wanted = all.machines.map(({ name }) => `${name} False`).join();
    await waitUntil("what the agents say of their networks", async () => (await health()).join() === wanted, 20_000);
  });

  test("their containers reach each other", async () => {
    const ips: string[] = [];
    for (const machine of all.machines) ips.push(await container(machine, "ADD", `c-${machine.name}`));
    expect(new Set(ips).size).toBe(3);
    for (const machine of all.machines) {
      for (const ip of ips) {
        const ping = async (): Promise<boolean> =>
          (await machine.sh(`ip netns exec c-${machine.name} ping -c 1 -W 1 ${ip}`)).exitCode === 0;
        await waitUntil(`${machine.name} to reach ${ip}`, ping, 10_000);
      }
    }
    expect(await m2.ok("ip route show proto 80")).toMatch(/10\.244\.\d+\.\d+\/26 via 172\.29\.0\.11 dev eth0/);
  });

  test("a machine's credential writes IPAM kinds and its own Node, and nothing else", async () => {
    const as = (args: string): ReturnType<typeof kubectl> => kubectl(m2, "/etc/gingham/kubeconfig", args);
    const block = (await as("get ipamblocks -o name")).text.trim().split("\n")[0] ?? "";
    expect(await as(`annotate ${block} test=own`)).toMatchObject({ exitCode: 0 });
    expect(await as("label node m2 test=own")).toMatchObject({ exitCode: 0 });
    for (const forbidden of [
      "label node m1 test=theirs",
      "delete node m1",
      "delete node m2",
      "get secrets -A",
      "create secret generic x -n default --from-literal=a=b",
      "delete crd ipamblocks.crd.projectcalico.org",
      'patch ippool default-ipv4-ippool --type merge -p \'{"spec":{"disabled":true}}\'',
      'patch clusterinformation default --type merge -p \'{"spec":{"datastoreReady":false}}\'',
      "delete --raw /apis/crd.projectcalico.org/v1/ipamblocks",
    ])
      expect([forbidden, (await as(forbidden)).text]).toEqual([
        forbidden,
        expect.stringMatching(/[Ff]orbidden|cannot/),
      ]);
    const wrong = await m2.ok(
      'sed \'s/"token": "[^"]*"/"token": "0123456789"/\' /etc/gingham/kubeconfig > /run/wrong; echo',
    );
    expect(wrong).toBe("\n");
    expect((await kubectl(m2, "/run/wrong", "get nodes")).text).toMatch(/[Uu]nauthorized|logged in/);
  });

  test("a renewed credential takes the old one away while the server runs", async () => {
    const renewed = await m1.ok("gingham-apiserver credential --node m3 --renew");
    const isRefused = async (): Promise<boolean> =>
      /[Uu]nauthorized|logged in/.test((await kubectl(m3, "/etc/gingham/kubeconfig", "get nodes")).text);
    await waitUntil("the old credential to count no more", isRefused, 10_000);
    await m3.sh("umask 077; cat > /etc/gingham/kubeconfig", { input: renewed });
    expect(await kubectl(m3, "/etc/gingham/kubeconfig", "get nodes")).toMatchObject({ exitCode: 0 });
  });

  test("a machine that Gingham leaves is as it was, and so are the custom resources", async () => {
    await container(m3, "DEL", "c-m3");
    await m3.ok("ip netns del c-m3");
    await units.get("m3/gingham-agent")?.stop();
    expect(await stateOf(m3)).not.toEqual(untouched);
    expect(await m3.ok("gingham node clean --yes")).toMatch(/Removed (\d+) of \1\./);
    expect(await stateOf(m3)).toEqual(untouched);
    await kubectl(m1, "/etc/gingham/admin.kubeconfig", "delete node m3");
    const left = async (): Promise<string> =>
      (await kubectl(m1, "/etc/gingham/admin.kubeconfig", "get ipamblocks,ipamhandles,blockaffinities -o yaml")).text;
    await waitUntil("the custom resources of m3 to go", async () => !/m3/.test(await left()), 30_000);
  });

  test("all is there after a restart of API server and agents, and DEL gives addresses back", async () => {
    await units.get("m1/gingham-apiserver")?.stop();
    await units.get("m2/gingham-agent")?.stop();
    await start(m1, "gingham-apiserver");
    await start(m2, "gingham-agent");
    await waitUntil("the agent of m2", () => isReady(m2), 30_000);
    for (const machine of [m1, m2]) await container(machine, "DEL", `c-${machine.name}`);
    const left = async (): Promise<string> =>
      (await kubectl(m1, "/etc/gingham/admin.kubeconfig", "get ipamhandles -o name")).text;
    const isTunnels = async (): Promise<boolean> =>
      (await left()).split("\n").every((line) => line.includes("tunnel") || line === "");
    await waitUntil("all but the machines' own addresses to be free", isTunnels, 10_000);
  });
});
