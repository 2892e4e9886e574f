// SPDX-License-Identifier: Apache-2.0
import { reservedCIDRs } from "../../crds/ip-reservation.ts";
import { type CIDR, cidrCovers, cidrFamily, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import { parseSelector } from "../../selector/selector.ts";
import type { Finding } from "./finding.ts";
import { compareCIDRs, liveBlocks, poolAround, type Snapshot } from "./snapshot.ts";

/** Pools, reservations, and where blocks lie. */
export function checkPools(snapshot: Snapshot): readonly Finding[] {
  return [...overlaps(snapshot), ...selectors(snapshot), ...reservations(snapshot), ...outsiders(snapshot)];
}

/** Blocks and pools by their ranges, since two of different size have different names. */
function overlaps(snapshot: Snapshot): readonly Finding[] {
  const blocks = liveBlocks(snapshot).map(({ metadata, spec }) => ({
    name: metadata.name,
    cidr: parseCIDR(spec.cidr),
  }));
  return [
    ...overlapping(blocks).map(
      ([outer, inner]): Finding => ({
        code: "overlappingBlocks",
        severity: "error",
        object: { kind: "IPAMBlock", name: inner.name },
        reason: `${formatCIDR(inner.cidr)} lies in ${formatCIDR(outer.cidr)} of IPAMBlock ${outer.name}: two pods can get one address`,
        nextStep: `move the pods out of one of the two blocks (cordon its node, delete them), then delete that block and its affinity`,
        identity: outer.name,
      }),
    ),
    // Only enabled ones give blocks; a disabled one around others says where natOutgoing does not masquerade.
    ...overlapping(snapshot.pools.filter(({ enabled }) => enabled)).map(
      ([outer, inner]): Finding => ({
        code: "overlappingPools",
        severity: "error",
        object: { kind: "IPPool", name: inner.name },
        reason: `${formatCIDR(inner.cidr)} overlaps ${formatCIDR(outer.cidr)} of IPPool ${outer.name}: blocks of both can overlap`,
        nextStep: "disable one of the two pools, and delete it when its addresses are free",
        identity: outer.name,
      }),
    ),
  ];
}

/** Each network with the nearest one around it. Networks nest or are apart, so one pass over a sorted list sees all. */
export function overlapping<T extends { readonly cidr: CIDR }>(items: readonly T[]): readonly (readonly [T, T])[] {
  const found: [T, T][] = [];
  const around: T[] = [];
  for (const item of [...items].sort((a, b) => compareCIDRs(a.cidr, b.cidr))) {
    for (let top = around.at(-1); top !== undefined && !cidrCovers(top.cidr, item.cidr); top = around.at(-1))
      around.pop();
    const outer = around.at(-1);
    if (outer !== undefined) found.push([outer, item]);
    around.push(item);
  }
  return found;
}

function selectors({ pools }: Snapshot): readonly Finding[] {
  return pools.flatMap((pool) =>
    (["nodeSelector", "namespaceSelector"] as const).flatMap((field): readonly Finding[] => {
      const text = pool[field];
      if (text === undefined) return [];
      try {
        parseSelector(text);
        return [];
      } catch (error) {
        return [
          {
            code: "unusableSelector",
            severity: "error",
            object: { kind: "IPPool", name: pool.name },
            reason: `${field} cannot be read, so only pods that name the pool get its addresses: ${error instanceof Error ? error.message : String(error)}`,
            nextStep: `kubectl edit ippool ${pool.name}`,
            identity: text,
          },
        ];
      }
    }),
  );
}

/** Everybody ignores an entry that cannot be read, silently: then the address is not reserved at all. */
function reservations(snapshot: Snapshot): readonly Finding[] {
  return snapshot.reservations.flatMap((reservation) =>
    reservation.spec.reservedCIDRs
      .filter((text) => reservedCIDRs({ ...reservation, spec: { reservedCIDRs: [text] } }).length === 0)
      .map((text): Finding => {
        const { name } = reservation.metadata;
        return {
          code: "unreadableReservation",
          severity: "warning",
          object: { kind: "IPReservation", name },
          reason: `entry ${JSON.stringify(text)} is no address and no network: it reserves nothing`,
          nextStep: `kubectl edit ipreservation ${name}`,
          identity: text,
        };
      }),
  );
}

function outsiders(snapshot: Snapshot): readonly Finding[] {
  const used = liveBlocks(snapshot).filter(({ spec }) => {
    // Load balancers' blocks are their controller's business, but they need a pool all the same.
    return poolAround(snapshot.pools, parseCIDR(spec.cidr)) === undefined;
  });
  return used.map(({ metadata, spec }): Finding => {
    const inUse = spec.allocations.filter((index) => index !== null).length;
    return {
      code: "blockOutsidePools",
      severity: "warning",
      object: { kind: "IPAMBlock", name: metadata.name },
      reason: `no IPPool holds ${spec.cidr}, and ${inUse} of its addresses are in use: nothing more is assigned from it`,
      nextStep: `create an IPv${cidrFamily(parseCIDR(spec.cidr))} IPPool around it, or move its pods (delete them) and it goes by itself`,
      identity: "",
    };
  });
}
