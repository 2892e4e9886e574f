// SPDX-License-Identifier: Apache-2.0
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { TABLE_NAME } from "../nft/table.ts";
import type { RouteDataplane } from "../ports.ts";
import { acceptedUDP, dropsTheRest, parseAcceptance } from "./chain-way.ts";
import { isCalicoInLegacy } from "./legacy.ts";
import { type BaseChain, parseChains, parseLegacyForward } from "./nft-json.ts";
import type { ConfigFile, ForeignFacts, ForeignPort, ForwardChain, InputChain, LegacyFamily } from "./ports.ts";

const exec = promisify(execFile);

/** Units: milliseconds, and bytes: kube-proxy's chains by the thousand are a few megabytes. */
const LIMITS = { timeout: 10_000, maxBuffer: 64 << 20 } as const;

export interface GatherOptions {
  readonly routes: RouteDataplane;
  /**
   * Where the machine's own files are. @default /proc/1/root, which is the machine's even for an agent in a container that
   * sees the machine's processes
   */
  readonly root?: string;
  /** @default /proc */
  readonly proc?: string;
  /** Before the name of a program: a test puts `ip netns exec NAME` here. */
  readonly prefix?: readonly string[];
}

/** Reads files and runs `nft`; what is missing or forbidden is as if it were not there. */
export function gatherForeign({
  routes,
  root = "/proc/1/root",
  proc = "/proc",
  prefix = [],
}: GatherOptions): ForeignPort {
  const run = async (file: string, ...args: readonly string[]): Promise<string> => {
    const [first = file, ...rest] = [...prefix, file, ...args];
    return await exec(first, rest, LIMITS).then(
      ({ stdout }) => stdout,
      () => "",
    );
  };
  const listTable = (family: string, table: string): Promise<string> =>
    run("nft", "-j", "list", "table", family, table);
  /** The image has no legacy iptables: the machine's own is executed, on the machine's files. */
  const runLegacy = async (program: string, args: readonly string[], input = ""): Promise<string> => {
    const attempt = async (argv: readonly string[]): Promise<string> => {
      const [first = program, ...rest] = [...prefix, ...argv];
      const running = exec(first, rest, LIMITS);
      running.child.stdin?.on("error", () => {});
      running.child.stdin?.end(input);
      return (await running).stdout;
    };
    return await attempt([program, ...args]).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      return attempt(["chroot", root, program, ...args]);
    });
  };
  return {
    listTable,
    saveLegacy: (family) => runLegacy(`${LEGACY[family]}-legacy-save`, []),
    restoreLegacy: async (family, script) => {
      await runLegacy(`${LEGACY[family]}-legacy-restore`, ["--noflush", "--wait"], script);
    },
    read: async (): Promise<ForeignFacts> => {
      const [links, v4, v6, nft] = await Promise.all([
        routes.listLinks(),
        routes.listRoutes(4),
        routes.listRoutes(6),
        run("nft", "-j", "list", "chains"),
      ]);
      const { chains, forward, input } = parseChains(nft);
      const tableOf = memoized(listTable);
      /** A chain that drops nothing needs no closer look, and may be one of kube-proxy's, beside ten thousand. */
      const isDropping = async ({ family, table, chain, policy }: BaseChain): Promise<boolean> =>
        policy === "drop" || dropsTheRest(await run("nft", "-j", "list", "chain", family, table, chain), chain);
      const forwardChains = await Promise.all(
        forward.map(async (chain): Promise<ForwardChain> => {
          if (!(await isDropping(chain))) return { ...chain, acceptsFrom: ["*"], acceptsTo: ["*"] };
          const accepts = parseAcceptance(await tableOf(chain.family, chain.table), chain.chain);
          return { ...chain, policy: "drop", ...accepts };
        }),
      );
      const foreignInput = input.filter(({ family, table }) => !(family === "inet" && table === TABLE_NAME));
      const inputChains = await Promise.all(
        foreignInput.map(async ({ policy, ...name }): Promise<readonly InputChain[]> => {
          if (!(await isDropping({ ...name, policy }))) return [];
          return [{ ...name, acceptsUDP: acceptedUDP(await tableOf(name.family, name.table), name.chain) }];
        }),
      );
      const legacy = await legacyForwards(proc, (program, args) => runLegacy(program, args).catch(() => ""));
      return {
        programs: programsIn(proc),
        files: {
          networkManager: [
            ...folder(root, "usr/lib/NetworkManager/conf.d", ".conf"),
            ...file(root, "etc/NetworkManager/NetworkManager.conf"),
            ...folder(root, "run/NetworkManager/conf.d", ".conf"),
            ...folder(root, "etc/NetworkManager/conf.d", ".conf"),
          ],
          networkd: [
            ...file(root, "etc/systemd/networkd.conf"),
            ...dropIns(root, ["usr/lib", "run", "etc"], "systemd/networkd.conf.d"),
          ],
          firewalldTrusted: file(root, "etc/firewalld/zones/trusted.xml"),
          firewalldPolicies: folder(root, "etc/firewalld/policies", ".xml"),
          ufw: file(root, "etc/ufw/ufw.conf"),
          sysctl: [...dropIns(root, ["usr/lib", "run", "etc"], "sysctl.d"), ...file(root, "etc/sysctl.conf")],
        },
        chains,
        forwardChains: [
          ...forwardChains,
          ...legacy.flatMap(({ family, text }) => parseLegacyForward(family, text) ?? []),
        ],
        inputChains: inputChains.flat(),
        legacyCalico: legacy.flatMap(({ family, text }) => (isCalicoInLegacy(text) ? [family] : [])),
        links,
        routes: [...v4, ...v6],
        reversePath: reversePath(proc),
        forwarding: {
          4: readText(join(proc, "sys/net/ipv4/ip_forward"))?.trim() === "1",
          6: readText(join(proc, "sys/net/ipv6/conf/all/forwarding"))?.trim() === "1",
        },
      };
    },
  };
}

const LEGACY = { ip: "iptables", ip6: "ip6tables" } as const;

/** Asked only where it is in use: the program would load the kernel's modules. */
async function legacyForwards(
  proc: string,
  run: (program: string, args: readonly string[]) => Promise<string>,
): Promise<readonly { readonly family: LegacyFamily; readonly text: string }[]> {
  const found = [];
  for (const family of ["ip", "ip6"] as const) {
    if (readText(join(proc, `net/${family}_tables_names`))?.includes("filter") !== true) continue;
    found.push({ family, text: await run(`${LEGACY[family]}-legacy`, ["-S"]) });
  }
  return found;
}

/** Several chains may be of one table. */
function memoized(list: (family: string, table: string) => Promise<string>): typeof list {
  const known = new Map<string, Promise<string>>();
  return (family, table) => known.getOrInsertComputed(`${family} ${table}`, () => list(family, table));
}

/** Names of what runs: a process that has ended and that nobody has waited for (Z) does not. Source: proc_pid_stat(5). */
function programsIn(proc: string): ReadonlySet<string> {
  const pids = list(proc).filter((name) => /^\d+$/.test(name));
  const programs = pids.flatMap((pid) => {
    const [, name, state] = /\((.*)\) (\S)/s.exec(readText(join(proc, pid, "stat")) ?? "") ?? [];
    return name === undefined || state === "Z" ? [] : [name];
  });
  return new Set(programs);
}

function reversePath(proc: string): ReadonlyMap<string, number> {
  const conf = join(proc, "sys/net/ipv4/conf");
  return new Map(list(conf).map((name) => [name, Number(readText(join(conf, name, "rp_filter")) ?? 0)]));
}

/** In the order of their names; of two with the same name the last folder's counts. Source: sysctl.d(5), systemd.unit(5). */
function dropIns(root: string, tops: readonly string[], path: string): readonly ConfigFile[] {
  const byName = new Map<string, ConfigFile>();
  for (const top of tops)
    for (const found of folder(root, join(top, path), ".conf")) byName.set(basename(found.path), found);
  return [...byName].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, found]) => found);
}

function folder(root: string, path: string, suffix: string): readonly ConfigFile[] {
  const names = list(join(root, path)).filter((name) => name.endsWith(suffix));
  return names.toSorted().flatMap((name) => file(root, join(path, name)));
}

function file(root: string, path: string): readonly ConfigFile[] {
  const text = readText(join(root, path));
  return text === undefined ? [] : [{ path: `/${path}`, text }];
}

function list(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
