// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Finding } from "../../src/felix/calc/findings.ts";
import { gatherForeign } from "../../src/felix/foreign/gather.ts";
import { judgeForeign } from "../../src/felix/foreign/judge.ts";
import { openRouteNamespace, type RouteNamespace } from "./route-namespace.ts";

const CALICO = `
table ip calico {
  chain filter-cali-x {
  }
}
`;

/** Real nft, iptables and routes; files and processes of a machine that the test makes up. */
describe("gatherForeign() and judgeForeign()", () => {
  let namespace: RouteNamespace;
  let folder: string;

  beforeEach(() => {
    namespace = openRouteNamespace();
    folder = mkdtempSync(join(tmpdir(), "gingham-foreign-"));
    write("proc/sys/net/ipv4/ip_forward", "1\n");
    write("proc/1/stat", "1 (systemd) S 1\n");
  });
  afterEach(async () => {
    await namespace.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function write(path: string, text: string): void {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }

  function inside(...argv: readonly string[]): void {
    execFileSync("ip", ["netns", "exec", namespace.name, ...argv], { stdio: "pipe" });
  }

  async function findings(
    say: (finding: Finding) => string = ({ code, subject }) => `${code} ${subject}`,
  ): Promise<readonly string[]> {
    const port = gatherForeign({
      routes: namespace.dataplane,
      root: join(folder, "root"),
      proc: join(folder, "proc"),
      prefix: ["ip", "netns", "exec", namespace.name],
    });
    const needs = { pools: ["10.0.0.0/16"], families: [4], vxlan: { port: 4789, families: [4] } } as const;
    return judgeForeign(await port.read(), needs).map(say);
  }

  test("a machine with nothing on it gives nothing to say", async () => {
    expect(await findings()).toEqual([]);
  });

  test("FORWARD DROP of iptables, until rules accept both directions", async () => {
    inside("iptables-nft", "-P", "FORWARD", "DROP");
    expect(await findings()).toEqual(["ForwardDropped ip filter FORWARD"]);
    inside("iptables-nft", "-I", "FORWARD", "-i", "cali+", "-j", "ACCEPT");
    expect(await findings()).toEqual(["ForwardDropped ip filter FORWARD"]);
    inside("iptables-nft", "-N", "DOCKER-USER");
    inside("iptables-nft", "-I", "FORWARD", "-j", "DOCKER-USER");
    inside("iptables-nft", "-I", "DOCKER-USER", "-o", "cali+", "-j", "ACCEPT");
    expect(await findings()).toEqual([]);
  });

  test("no false alarm: kube-proxy's and Docker's tables, with rules by interface or by pool, with comments", async () => {
    const iptables = (line: string): void => inside("iptables-nft", ...line.split(" "));
    for (const line of [
      "-N KUBE-FORWARD",
      "-A FORWARD -m comment --comment kubernetes -j KUBE-FORWARD",
      "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
      "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
      "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
      "-N DOCKER",
      "-A FORWARD -o docker0 -j DOCKER",
      "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    ])
      iptables(line);
    inside("nft", "add table ip kube-proxy; add chain ip kube-proxy c { type filter hook forward priority -110; }");
    // It drops what is invalid, and nothing else.
    expect(await findings()).toEqual([]);
    // What of all this accepts something accepts it of nobody's pods.
    iptables("-P FORWARD DROP");
    expect(await findings()).toEqual(["ForwardDropped ip filter FORWARD"]);
    iptables("-I FORWARD -s 10.0.0.0/8 -m comment --comment pods -j ACCEPT");
    iptables("-I FORWARD -o cali+ -m comment --comment pods -j ACCEPT");
    expect(await findings()).toEqual([]);
  });

  test.each([
    ["nft", "add table inet mine; add chain inet mine fw { type filter hook forward priority 0; policy drop; }"],
    ["iptables-nft", "-P FORWARD DROP"],
  ])("the line that it names for a chain of %s ends it", async (program, args) => {
    inside(program, ...(program === "nft" ? [args] : args.split(" ")));
    const [message = "", ...more] = await findings(({ message }) => message);
    expect(more).toEqual([]);
    const line = message.replace(/^.*packets of pods: /, "").replace(/, and in the file.*$/, "");
    inside("sh", "-c", line.replaceAll("iptables ", "iptables-nft "));
    expect(await findings()).toEqual([]);
  });

  /** As ufw makes them: the chain that accepts everything is for what goes out. */
  test("a firewall in chains of its own, until rules accept pods both ways, and VXLAN", async () => {
    const iptables = (line: string): void => inside("iptables-nft", ...line.split(" "));
    for (const line of [
      ...["before-input", "user-input", "before-forward", "user-forward", "skip-to-policy-output"].map(
        (c) => `-N ufw-${c}`,
      ),
      "-A INPUT -j ufw-before-input",
      "-A ufw-before-input -i lo -j ACCEPT",
      "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
      "-A ufw-before-input -p icmp --icmp-type echo-request -j ACCEPT",
      "-A ufw-before-input -p udp --sport 67 --dport 68 -j ACCEPT",
      "-A ufw-before-input -j ufw-user-input",
      "-A ufw-user-input -p tcp --dport 22 -j ACCEPT",
      "-A FORWARD -j ufw-before-forward",
      "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
      "-A ufw-before-forward -j ufw-user-forward",
      "-A ufw-skip-to-policy-output -j ACCEPT",
      "-P INPUT DROP",
      "-A FORWARD -j REJECT",
    ])
      iptables(line);
    expect(await findings()).toEqual(["ForwardDropped ip filter FORWARD", "TunnelDropped ip filter INPUT"]);
    iptables("-A ufw-user-forward -i cali+ -j ACCEPT");
    iptables("-A ufw-user-forward -o cali+ -j ACCEPT");
    expect(await findings()).toEqual(["TunnelDropped ip filter INPUT"]);
    const [message = ""] = await findings((finding) => finding.message);
    inside("sh", "-c", message.replace(/^.*not heard: iptables/, "iptables-nft"));
    expect(await findings()).toEqual([]);
  });

  test("programs by their processes, settings by the file that wins", async () => {
    write("proc/200/stat", "200 (NetworkManager) S 1\n");
    write("proc/201/stat", "201 (systemd-network) S 1\n");
    expect(await findings()).toEqual([
      "NetworkManagerManages NetworkManager",
      "NetworkdRemovesRoutes systemd-networkd",
    ]);
    write("root/etc/NetworkManager/conf.d/gingham.conf", "[keyfile]\nunmanaged-devices=interface-name:cali*\n");
    write("root/usr/lib/systemd/networkd.conf.d/10-x.conf", "[Network]\nManageForeignRoutes=yes\n");
    write("root/etc/systemd/networkd.conf.d/10-x.conf", "[Network]\nManageForeignRoutes=no\n");
    expect(await findings()).toEqual([]);
    write("root/run/systemd/networkd.conf.d/20-x.conf", "[Network]\nManageForeignRoutes=yes\n");
    write("root/etc/sysctl.d/50.conf", "net.ipv4.ip_forward = 0\n");
    expect(await findings()).toEqual([
      "NetworkdRemovesRoutes systemd-networkd",
      "ForwardingSwitchedOff net.ipv4.ip_forward",
    ]);
    write("root/etc/sysctl.conf", "net.ipv4.ip_forward=1\n");
    expect(await findings()).toEqual(["NetworkdRemovesRoutes systemd-networkd"]);
  });

  test("what a Calico agent has left", async () => {
    await namespace.addLink("cali1", []);
    // By this one the pod has its network, until it is adopted.
    namespace.ip("route", "add", "10.0.0.9", "dev", "cali1", "proto", "3", "metric", "1024");
    expect(await findings()).toEqual([]);
    namespace.ip("route", "add", "10.0.0.9", "dev", "cali1", "proto", "80");
    expect(await findings()).toEqual(["CalicoLeftovers calico"]);
    namespace.ip("route", "flush", "10.0.0.9");
    execFileSync("ip", ["netns", "exec", namespace.name, "nft", "-f", "-"], { input: CALICO });
    expect(await findings()).toEqual(["CalicoLeftovers calico"]);
    inside("nft", "delete", "table", "ip", "calico");
    inside("iptables-nft", "-N", "cali-FORWARD");
    expect(await findings()).toEqual(["CalicoLeftovers calico"]);
    write("proc/300/stat", "300 (calico-node) S 1\n");
    expect(await findings()).toEqual(["CalicoAgentRuns calico-node"]);
    // It has ended, and nobody has waited for it.
    write("proc/300/stat", "300 (calico-node) Z 1\n");
    expect(await findings()).toEqual(["CalicoLeftovers calico"]);
  });
});
