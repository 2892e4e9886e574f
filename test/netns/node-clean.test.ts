// SPDX-License-Identifier: Apache-2.0
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fileRecordStore } from "../../src/cni/records/record-store.ts";
import { openRouteNamespace, type RouteNamespace } from "./route-namespace.ts";

const ROOT = join(import.meta.dirname, "../..");

/** Objects of others, which look as much like ours as they can. */
const FOREIGN_NFT = `
table inet gingham-of-others { chain c { type filter hook input priority 0; }; }
table ip gingham { set pools { type ipv4_addr; }; }
table ip calico { chain cali-FORWARD { }; }
`;

describe("gingham node clean", () => {
  let namespace: RouteNamespace;
  let folder: string;
  let paths: { readonly state: string; readonly socket: string };

  beforeEach(async () => {
    namespace = openRouteNamespace();
    folder = mkdtempSync(join(tmpdir(), "gingham-clean-"));
    paths = { state: join(folder, "lib/gingham"), socket: join(folder, "run/gingham/agent.sock") };
    const ip = (...args: readonly string[]): string => namespace.ip(...args);
    await namespace.addLink("eth0", ["192.0.2.1/24", "2001:db8::1/64"]);
    const pod = await namespace.addLink("cali1", []);
    await namespace.addLink("cali2", []);
    ip("link", "add", "vxlan.calico", "type", "vxlan", "id", "4096", "dstport", "4789", "local", "192.0.2.1");
    ip("link", "add", "flannel.1", "type", "vxlan", "id", "1", "dstport", "8472", "local", "192.0.2.1");
    ip("link", "set", "vxlan.calico", "up");
    ip("link", "set", "flannel.1", "up");
    for (const route of [
      "10.0.0.5 dev cali1 proto 80",
      "blackhole 10.0.0.0/26 proto 80",
      "10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80",
      "10.0.1.0/26 via 10.0.0.1 dev vxlan.calico onlink proto 80",
      "169.254.1.1 dev lo scope link proto 80",
      "10.7.0.0/16 via 192.0.2.9 proto 80 metric 7",
      "10.7.0.0/16 via 192.0.2.9 proto 4 metric 9",
      "10.0.0.6 dev cali2 proto 3",
      "blackhole 10.9.0.0/16 proto 12",
      "default via 192.0.2.254",
      "10.8.0.0/16 dev flannel.1",
    ])
      ip("route", "add", ...route.split(" "));
    ip("route", "add", "10.6.0.0/16", "via", "192.0.2.9", "table", "100", "proto", "80");
    ip("-6", "route", "add", "blackhole", "fd00::/122", "proto", "80");
    ip("-6", "route", "add", "fd00:9::/64", "via", "2001:db8::9");
    nft(`table inet gingham { chain prerouting { type filter hook prerouting priority -300; }; }\n`);
    nft(FOREIGN_NFT);
    await fileRecordStore(join(paths.state, "attachments")).create(
      { network: "net", containerID: "c1", ifName: "eth0" },
      {
        state: "releasing",
        handleID: "h",
        atMs: 1,
        link: {
          bootID: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
          hostIface: "cali1",
          hostIfIndex: pod,
        },
      },
    );
    mkdirSync(join(paths.state, "journal"));
    writeFileSync(join(paths.state, "api.db"), "the API server's");
    mkdirSync(join(folder, "run/gingham"), { recursive: true });
    for (const [path, text] of Object.entries({
      "cni/10-gingham.conflist": "{}",
      "cni/10-calico.conflist.gingham-bak": "calico's",
      "cni/87-podman.conflist": "podman's",
      "bin/gingham": "the launcher",
      "bin/portmap": "a newer one of somebody's",
    })) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    const digest = createHash("sha256").update("the launcher").digest("hex");
    const programs = { [join(folder, "bin/gingham")]: [digest], [join(folder, "bin/portmap")]: [digest] };
    writeFileSync(join(paths.state, "installed.json"), JSON.stringify({ programs }));
  });
  afterEach(async () => {
    await namespace.close();
    rmSync(folder, { recursive: true, force: true });
  });

  function nft(script: string): void {
    execFileSync("ip", ["netns", "exec", namespace.name, "nft", "-f", "-"], { input: script });
  }

  /** @param before a script that the command's machine runs first. */
  function command(args: readonly string[], before = ":"): string[] {
    // Processes of its own, or the agents of this machine would be the node's.
    const processes = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    const inside = ["netns", "exec", namespace.name, ...processes, "sh", "-euc", `${before}\nexec "$@"`, "sh"];
    const program = [process.execPath, "--disable-warning=ExperimentalWarning", join(ROOT, "src/main/cli.ts")];
    const words = [
      "node",
      "clean",
      "--state-dir",
      paths.state,
      "--socket",
      paths.socket,
      "--cni-conf-dir",
      join(folder, "cni"),
      ...args,
    ];
    return [...inside, ...program, ...words];
  }

  function clean(...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
    return spawnSync("ip", command(args), { encoding: "utf8" });
  }

  /** Everything that there is, ours and others'; without the kernel's own table, which follows new addresses late. */
  function everything(): readonly string[] {
    const routes = ["-4", "-6"].flatMap((family) => namespace.ip(family, "route", "show", "table", "all").split("\n"));
    const links = namespace
      .ip("-br", "link")
      .split("\n")
      .map((line) => line.split(/[@ ]/)[0] ?? "");
    const tables = execFileSync("ip", ["netns", "exec", namespace.name, "nft", "list", "ruleset"], {
      encoding: "utf8",
    });
    return [...routes, ...links, ...tables.split("\n")]
      .map((line) => line.trim())
      .filter((line) => line !== "" && !line.includes("table local"));
  }

  test("prints the plan and changes nothing without a yes", () => {
    const before = everything();
    const { status, stdout, stderr } = clean();
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: "gingham: nothing was changed; --yes removes without asking\n",
    });
    const lines = stdout.split("\n").flatMap((line) => (line.startsWith("  ") ? [line.trim()] : []));
    expect([...lines.slice(0, 3), ...lines.slice(-6)]).toEqual([
      `network configuration ${join(folder, "cni/10-calico.conflist.gingham-bak")} gets its name 10-calico.conflist back`,
      `network configuration ${join(folder, "cni/10-gingham.conflist")}`,
      "link cali1",
      "link vxlan.calico, with its neighbours and forwarding entries",
      `program ${join(folder, "bin/gingham")}`,
      join(paths.state, "installed.json"),
      "table inet gingham of nftables",
      join(paths.state, "attachments"),
      join(paths.state, "journal"),
    ]);
    expect(lines.slice(3, -6).toSorted()).toEqual([
      "route 10.0.0.5/32 dev cali1 proto 80",
      "route 10.0.0.64/26 via 192.0.2.2 dev eth0 proto 80",
      "route 10.0.1.0/26 via 10.0.0.1 dev vxlan.calico proto 80",
      "route 10.7.0.0/16 via 192.0.2.9 dev eth0 proto 80 metric 7",
      "route 169.254.1.1/32 dev lo proto 80",
      "route blackhole 10.0.0.0/26 proto 80",
      "route blackhole fd00::/122 proto 80",
    ]);
    expect(everything()).toEqual(before);
  });

  test("removes what is ours; routes, links, tables and files of others stay as they were", () => {
    const before = everything();
    const { status, stdout, stderr } = clean("--yes");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/Removed 16 of 16\.\n$/);
    expect(readdirSync(join(folder, "cni")).toSorted()).toEqual(["10-calico.conflist", "87-podman.conflist"]);
    expect(readdirSync(join(folder, "bin"))).toEqual(["portmap"]);
    const after = everything();
    const gone = before.filter((line) => !after.includes(line));
    expect(after.filter((line) => !before.includes(line))).toEqual([]);
    const isOurs = (line: string): boolean =>
      /proto 80|cali1|vxlan\.calico|table inet gingham \{|chain prerouting|hook prerouting/.test(line) &&
      !line.includes("table 100");
    expect(gone.filter((line) => !isOurs(line))).toEqual([]);
    expect(after.filter(isOurs)).toEqual([]);
    for (const left of ["10.6.0.0/16 via 192.0.2.9 dev eth0 table 100 proto 80", "cali2", "flannel.1"])
      expect(after).toContain(left);
    expect(existsSync(join(paths.state, "attachments"))).toBe(false);
    expect(readFileSync(join(paths.state, "api.db"), "utf8")).toBe("the API server's");
    expect(clean("--yes").stdout).toBe("There is nothing of it on this node.\n");
  });

  test("--keep-pods removes files and table alone, so that pods go on", () => {
    const before = everything();
    const { status, stdout } = clean("--keep-pods", "--yes");
    expect({ status, stdout: stdout.split("\n").at(-2) }).toEqual({ status: 0, stdout: "Removed 5 of 5." });
    expect(readdirSync(join(folder, "cni")).toSorted()).toEqual(["10-calico.conflist", "87-podman.conflist"]);
    expect(readdirSync(join(folder, "bin")).toSorted()).toEqual(["gingham", "portmap"]);
    const gone = before.filter((line) => !everything().includes(line));
    expect(gone.filter((line) => /cali|proto 80|vxlan/.test(line))).toEqual([]);
    expect(gone.some((line) => line.includes("table inet gingham"))).toBe(true);
    expect(existsSync(join(paths.state, "attachments"))).toBe(false);
    expect(clean("--keep-pods", "--calico-leftovers").status).toBe(2);
  });

  test("--calico-leftovers removes what Calico's agent has left, and leaves all else", () => {
    const iptables = (...args: readonly string[]): void => {
      execFileSync("ip", ["netns", "exec", namespace.name, "iptables-nft", ...args]);
    };
    iptables("-N", "cali-FORWARD");
    iptables("-N", "cali-to-wl");
    iptables("-N", "others");
    iptables("-A", "FORWARD", "-j", "cali-FORWARD");
    iptables("-A", "cali-FORWARD", "-j", "cali-to-wl");
    iptables("-A", "FORWARD", "-j", "others");
    iptables("-A", "others", "-s", "192.0.2.7", "-j", "ACCEPT");
    namespace.ip("route", "add", "10.0.0.5", "dev", "cali1", "metric", "1024", "proto", "3");
    const stale = "10.0.9.0/26 via 10.0.9.0 dev vxlan.calico onlink proto 3";
    namespace.ip("route", "add", ...stale.split(" "));
    const before = everything();
    const { status, stdout, stderr } = clean("--calico-leftovers", "--yes");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout.split("\n").flatMap((line) => (line.startsWith("  ") ? [line.trim()] : []))).toEqual([
      "route 10.0.0.5/32 dev cali1 proto 3 metric 1024; ours to the same pod stays",
      "route 10.0.9.0/26 via 10.0.9.0 dev vxlan.calico proto 3; no block is there any more",
      "table ip calico of nftables",
      "2 chains cali-* in table ip filter, and the rules that lead there",
    ]);
    const after = everything();
    const gone = before.filter((line) => !after.includes(line));
    expect(after.filter((line) => !before.includes(line))).toEqual([]);
    expect(gone.filter((line) => !/cali-|metric 1024|^10.0.9.0|table ip calico/.test(line))).toEqual([]);
    expect(after.filter((line) => /cali-/.test(line))).toEqual([]);
    expect(after.some((line) => line.startsWith("10.0.0.6 dev cali2"))).toBe(true);
    expect(after.some((line) => line.includes("jump others"))).toBe(true);
    expect(after.some((line) => line.startsWith("10.0.0.5 dev cali1 proto 80"))).toBe(true);
    expect(clean("--calico-leftovers", "--yes").stdout).toBe("There is nothing of it on this node.\n");
  });

  test("refuses while Calico's agent runs on the node, but for --force", () => {
    const agent = join(folder, "calico-felix");
    copyFileSync("/bin/sleep", agent);
    chmodSync(agent, 0o755);
    const before = everything();
    for (const args of [["--yes"], ["--calico-leftovers", "--yes"]]) {
      const { status, stderr } = spawnSync("ip", command(args, `${agent} 600 &`), { encoding: "utf8" });
      expect({ status, stderr }).toMatchObject({
        status: 1,
        stderr: expect.stringMatching("Calico's agent runs") as string,
      });
    }
    expect(everything()).toEqual(before);
    expect(spawnSync("ip", command(["--yes", "--force"], `${agent} 600 &`)).status).toBe(0);
  });

  test("refuses who is not root, before it says what there is", () => {
    const user = ["--reuid=65532", "--regid=65532", "--clear-groups"];
    const argv = command(["--yes"]);
    const { status, stdout, stderr } = spawnSync("setpriv", [...user, ...argv.slice(argv.indexOf(process.execPath))], {
      encoding: "utf8",
    });
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toMatch(/^gingham: Only root .* 65532: .*runAsUser: 0/);
  });

  test("refuses while an agent listens, but for --force", async () => {
    const server = createServer((_, response) => response.writeHead(200).end("{}")).listen(paths.socket);
    await once(server, "listening");
    const before = everything();
    // The socket is answered by this process, so it must not wait for the other one.
    const ask = async (...args: readonly string[]): Promise<{ readonly status: number; readonly stderr: string }> =>
      await new Promise((resolve) =>
        execFile("ip", command(args), (error, _, stderr) => resolve({ status: Number(error?.code ?? 0), stderr })),
      );
    const refused = await ask("--yes");
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain(`An agent listens on ${paths.socket}`);
    expect(everything()).toEqual(before);
    expect(await ask("--yes", "--force")).toMatchObject({ status: 0 });
    expect(everything().filter((line) => line.includes("proto 80") && !line.includes("table 100"))).toEqual([]);
    server.close();
  });
});
