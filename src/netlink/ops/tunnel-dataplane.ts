// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { KindUnsupportedError } from "../../felix/errors.ts";
import type { DeviceChange, TunnelDataplane, TunnelEntry, VXLANDevice } from "../../felix/ports.ts";
import type { Conn, Request } from "../conn.ts";
import { NetlinkError } from "../errors.ts";
import * as c from "../wire/constants.ts";
import type { NeighMessage } from "../wire/neigh.ts";
import { deleteAddr, replaceAddr } from "./addr.ts";
import { deleteLink, newLink, setLink, setLinkUp } from "./link.ts";
import { deleteFDB, deleteNeigh, listNeighs, replaceFDB, replaceNeigh } from "./neigh.ts";

/** Felix's view of the devices of tunnels, and of the neighbours and forwarding entries of VXLAN. */
export class KernelTunnelDataplane implements TunnelDataplane {
  readonly #conn: Conn;
  readonly #watched = new Set<number>();

  constructor(conn: Conn) {
    this.#conn = conn;
  }

  /** The devices whose entries were listed: changes of other neighbours concern nobody. */
  get watched(): ReadonlySet<number> {
    return this.#watched;
  }

  async changeDevice(change: DeviceChange): Promise<void> {
    const { ENODEV, EADDRNOTAVAIL } = constants.errno;
    switch (change.kind) {
      case "create":
        this.#conn.execute(newVXLAN(change.device));
        return;
      case "createIPIP":
        this.#createIPIP(change.name);
        return;
      case "set": {
        const { ifIndex: index, mtuBytes: mtu, mac } = change;
        const address = mac === undefined ? {} : { address: mac };
        this.#conn.execute(setLink({ index, ...address, flags: c.IFF_UP, change: c.IFF_UP }));
        this.#conn.execute(setLink({ index, mtu }));
        return;
      }
      case "down":
        this.#tolerate(setLinkUp(change.ifIndex, false), [ENODEV]);
        return;
      case "delete":
        this.#watched.delete(change.ifIndex);
        this.#tolerate(deleteLink({ index: change.ifIndex }), [ENODEV]);
        return;
      case "addAddr":
        // On a device without multicast, duplicate address detection would only hold the address back for a second.
        this.#conn.execute(replaceAddr({ ...change, index: change.ifIndex, flags: c.IFA_F_NODAD }));
        return;
      case "deleteAddr":
        this.#tolerate(deleteAddr({ ...change, index: change.ifIndex }), [ENODEV, EADDRNOTAVAIL]);
        return;
      default:
        change satisfies never;
    }
  }

  async listEntries(ifIndex: number): Promise<readonly TunnelEntry[]> {
    this.#watched.add(ifIndex);
    try {
      return [c.AF_INET, c.AF_INET6, c.AF_BRIDGE]
        .flatMap((af) => listNeighs(this.#conn, af, ifIndex))
        .flatMap((neigh) => entryOf(neigh) ?? []);
    } catch (error) {
      // Somebody deletes the device at this moment; the links will tell.
      if (error instanceof NetlinkError && error.errno === constants.errno.ENODEV) return [];
      throw error;
    }
  }

  async replaceEntries(entries: readonly TunnelEntry[]): Promise<readonly (Error | undefined)[]> {
    const request = (entry: TunnelEntry): Request =>
      entry.kind === "neigh"
        ? replaceNeigh({ index: entry.ifIndex, ip: entry.ip, linkAddress: entry.mac })
        : replaceFDB({ index: entry.ifIndex, linkAddress: entry.mac, remote: entry.remote });
    return this.#conn.executeBatch(entries.map(request)).map(({ error }) => error);
  }

  async deleteEntries(entries: readonly TunnelEntry[]): Promise<readonly (Error | undefined)[]> {
    const { ENOENT, ENODEV } = constants.errno;
    const request = (entry: TunnelEntry): Request =>
      entry.kind === "neigh"
        ? deleteNeigh({ index: entry.ifIndex, ip: entry.ip })
        : deleteFDB({ index: entry.ifIndex, linkAddress: entry.mac, remote: entry.remote });
    return this.#conn
      .executeBatch(entries.map(request))
      .map(({ error }) => (error !== undefined && [ENOENT, ENODEV].includes(error.errno) ? undefined : error));
  }

  /** Asked for the kind, the kernel loads the module, and that one brings the device of this very name. */
  #createIPIP(name: string): void {
    const { EEXIST, EOPNOTSUPP } = constants.errno;
    try {
      this.#tolerate(newLink({ name, info: { kind: "ipip" } }), [EEXIST]);
    } catch (error) {
      if (!(error instanceof NetlinkError) || error.errno !== EOPNOTSUPP) throw error;
      throw new KindUnsupportedError("ipip", error);
    }
  }

  #tolerate(request: Request, errnos: readonly number[]): void {
    try {
      this.#conn.execute(request);
    } catch (error) {
      if (!(error instanceof NetlinkError) || !errnos.includes(error.errno)) throw error;
    }
  }
}

function newVXLAN({ name, mac, mtuBytes, vni, port, localIP, parentIfIndex, learning }: VXLANDevice): Request {
  return newLink({
    name,
    address: mac,
    mtu: mtuBytes,
    flags: c.IFF_UP,
    change: c.IFF_UP,
    info: { kind: "vxlan", id: vni, port, local: localIP, link: parentIfIndex, learning },
  });
}

/** Undefined for what the kernel has learned or made by itself. */
function entryOf({ family, index: ifIndex, state, dst, linkAddress: mac }: NeighMessage): TunnelEntry | undefined {
  if ((state & c.NUD_PERMANENT) === 0 || dst === undefined || mac === undefined) return undefined;
  if (family === c.AF_BRIDGE) return { kind: "fdb", ifIndex, mac, remote: dst };
  return { kind: "neigh", ifIndex, ip: dst, mac };
}
