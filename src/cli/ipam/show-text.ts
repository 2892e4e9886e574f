// SPDX-License-Identifier: Apache-2.0
import { KEEP_TEXT, LEAK_TEXT } from "../../ipam/audit/check-addresses.ts";
import type { AddressStory } from "../../ipam/audit/story.ts";
import type { BlockUsage, BorrowedAddress, ClusterUsage, PoolUsage, Usage } from "../../ipam/audit/usage.ts";
import { formatBar, formatCount, formatPercent } from "../output/numbers.ts";
import type { Style } from "../output/style.ts";
import { type Column, renderFacts, renderTable } from "../output/table.ts";

/** Above this share of a pool, people should look. */
const NEARLY_FULL_PERCENT = 80n;
const FULL_PERCENT = 95n;

export function renderPools({ pools, outside }: ClusterUsage, isWide: boolean, style: Style): string {
  const columns: Column<PoolUsage>[] = [
    { title: "POOL", text: ({ pool, isEnabled }) => (isEnabled ? pool : `${pool} (not enabled)`) },
    { title: "CIDR", text: ({ cidr }) => cidr },
    ...countColumns<PoolUsage>(isWide),
    ...(isWide
      ? [
          { title: "BLOCKS", text: ({ blocks }: PoolUsage) => String(blocks.length), align: "right" as const },
          { title: "BLOCK SIZE", text: ({ blockSize }: PoolUsage) => `/${blockSize}`, align: "right" as const },
        ]
      : []),
    { title: "USED", text: (pool) => usedText(pool, style) },
  ];
  if (pools.length === 0) return "There is no IPPool: create one, and pods get addresses.\n";
  const note = outside.length === 0 ? "" : `\nBlocks in no pool: ${outside.length}, see gingham ipam show --blocks\n`;
  return renderTable(columns, pools) + note;
}

type Row = { readonly name: string; readonly owner: string; readonly state: string; readonly borrowed: string } & Usage;

export function renderBlocks({ pools, outside }: ClusterUsage, isWide: boolean, style: Style): string {
  const rows: Row[] = [];
  for (const pool of pools) {
    rows.push({ ...pool, name: `${pool.pool} ${pool.cidr}`, owner: "", state: "", borrowed: "" });
    rows.push(...pool.blocks.map(blockRow));
  }
  if (outside.length > 0) {
    const none = { total: 0n, inUse: 0n, cooling: 0n, reserved: 0n, free: 0n };
    rows.push({ ...none, name: "in no pool", owner: "", state: "", borrowed: "" }, ...outside.map(blockRow));
  }
  return renderTable<Row>(
    [
      { title: "POOL / BLOCK", text: ({ name }) => name },
      { title: "OWNER", text: ({ owner }) => owner },
      { title: "STATE", text: ({ state }) => (state === "damaged" ? style.bad(state) : state) },
      ...countColumns<Row>(isWide, ({ total }) => total === 0n),
      { title: "BORROWED", text: ({ borrowed }) => borrowed, align: "right" },
      { title: "USED", text: (row) => (row.total === 0n ? "" : usedText(row, style)) },
    ],
    rows,
  );
}

function blockRow(block: BlockUsage): Row {
  const { affinity = "nobody", state = "no claim", isDamaged, borrowed } = block;
  return {
    ...block,
    name: `  ${block.cidr}`,
    owner: affinity.replace(/^host:/, ""),
    state: isDamaged ? "damaged" : affinity === "nobody" ? "" : state,
    borrowed: String(borrowed),
  };
}

function countColumns<T extends Usage>(isWide: boolean, isBlank: (row: T) => boolean = () => false): Column<T>[] {
  const count = (title: string, read: (row: T) => bigint): Column<T> => {
    return { title, text: (row) => (isBlank(row) ? "" : formatCount(read(row))), align: "right" };
  };
  return [
    count("TOTAL", ({ total }) => total),
    count("IN USE", ({ inUse }) => inUse),
    ...(isWide ? [count("COOLING", ({ cooling }) => cooling)] : []),
    count("RESERVED", ({ reserved }) => reserved),
    count("FREE", ({ free }) => free),
  ];
}

function usedText({ total, inUse, cooling }: Usage, style: Style): string {
  const used = inUse + cooling;
  const percent = total === 0n ? 0n : (used * 100n) / total;
  const paint = percent >= FULL_PERCENT ? style.bad : percent >= NEARLY_FULL_PERCENT ? style.warn : style.good;
  return `${paint(formatBar(used, total))} ${formatPercent(used, total)}`;
}

export function renderBorrowed(addresses: readonly BorrowedAddress[]): string {
  if (addresses.length === 0) return "No address is borrowed: each is used on the node that owns its block.\n";
  return renderTable<BorrowedAddress>(
    [
      { title: "ADDRESS", text: ({ address }) => address },
      { title: "BORROWED BY", text: ({ node }) => node },
      { title: "BLOCK", text: ({ block }) => block },
      { title: "BLOCK OWNER", text: ({ owner = "nobody" }) => owner.replace(/^host:/, "") },
      { title: "TYPE", text: ({ type }) => type },
      { title: "ALLOCATED TO", text: ({ allocatedTo }) => allocatedTo },
    ],
    addresses,
  );
}

/** One setting, and where it comes from. */
export interface Setting {
  readonly name: string;
  readonly value: string | number | boolean;
  /** Object that says so; absent: the default. */
  readonly source?: string;
}

export function renderSettings(settings: readonly Setting[]): string {
  return renderTable<Setting>(
    [
      { title: "SETTING", text: ({ name }) => name },
      { title: "VALUE", text: ({ value }) => String(value) },
      { title: "FROM", text: ({ source = "default" }) => source },
    ],
    settings,
  );
}

const STATE_TEXT: Readonly<Record<AddressStory["state"], string>> = {
  held: "in use",
  cooling: "cooling: given back, and not to be given again yet",
  unhandled: "in use, without a handle",
  nameless: "in use by nobody: its record says nothing at all",
  windows: "kept for Windows",
  free: "free",
  noBlock: "free: nobody has claimed a block with it",
  broken: "in use, by an owner record that is not there",
};

export function renderStory(story: AddressStory, style: Style): string {
  const { block, pool, state, verdict, reportedBy } = story;
  const isUnknown = block === undefined && pool === undefined;
  const paint =
    state === "held"
      ? style.good
      : state === "nameless" || state === "broken"
        ? style.bad
        : (text: string): string => text;
  const facts: (readonly [string, string])[] = [
    ["Address", style.bold(story.address)],
    ["State", paint(isUnknown ? "unknown here" : STATE_TEXT[state])],
    [
      "Pool",
      pool === undefined ? "none holds it" : `${pool.name} ${pool.cidr}${pool.isEnabled ? "" : ", not enabled"}`,
    ],
  ];
  const add = (name: string, value: string | undefined): void => {
    if (value !== undefined) facts.push([name, value]);
  };
  if (block !== undefined) {
    add("Block", `${block.cidr}, ordinal ${block.ordinal}${block.isDamaged ? ", damaged" : ""}`);
    const claim = block.owner === undefined ? "" : `, claim ${block.claim ?? "missing"}`;
    add("Block owner", `${block.owner?.replace(/^host:/, "node ") ?? "nobody"}${claim}`);
  }
  for (const other of story.otherBlocks ?? []) {
    const who = `of ${other.owner?.replace(/^host:/, "node ") ?? "nobody"}`;
    const by = other.handleID === undefined ? "" : ` (${other.handleID})`;
    add(
      "Also in block",
      style.bad(`${other.cidr}, ordinal ${other.ordinal}, ${who}; there: ${STATE_TEXT[other.state]}${by}`),
    );
  }
  add("Handle", story.handleID && `${story.handleID}${story.hasHandle === false ? " (no such IPAMHandle)" : ""}`);
  add("Sequence number", story.sequenceNumber?.toString());
  add("Pod", podText(story));
  add("Node", story.node && `${story.node}${story.nodeExists === false ? " (not in the cluster)" : ""}`);
  add("Since", story.since);
  add("Given back", story.releasedAt);
  const shown = new Set(["node", "namespace", "pod", "timestamp"]);
  for (const [key, value] of Object.entries(story.attributes ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)))
    if (!shown.has(key)) add(`Attribute ${key}`, value);
  if (story.isBorrowed)
    add("Borrowed", `yes: used on ${story.node}, out of a block of ${block?.owner?.replace(/^host:/, "") ?? "nobody"}`);
  for (const reservation of story.reservations)
    add("Reserved by", `${reservation.name}${reservation.for === undefined ? "" : `, for ${reservation.for}`}`);
  for (const other of reportedBy)
    if (other !== story.pod) add("Reported by", style.bad(`pod ${other}, which it was not given to`));
  add("Routed", story.route);
  if (verdict !== undefined) {
    add(
      "Collection",
      verdict.kind === "leak" ? style.warn(`leaked: ${LEAK_TEXT[verdict.why]}`) : `stays: ${KEEP_TEXT[verdict.why]}`,
    );
  }
  return renderFacts(facts);
}

function podText({ pod, podExists, podReportsIt }: AddressStory): string | undefined {
  if (pod === undefined) return undefined;
  if (podExists !== true) return `${pod} (no such pod)`;
  return `${pod}, ${podReportsIt === true ? "which reports it" : "which does not report it"}`;
}
