// SPDX-License-Identifier: Apache-2.0
import { type BatchResult, Conn as RealConn, type Request } from "../../../../src/netlink/conn.ts";
import { NetlinkSocket, type SocketOptions } from "../../../../src/netlink/socket.ts";
import { messageTypeName } from "../../../../src/netlink/wire/constants.ts";
import { aroundSync } from "./points.ts";

/** The real conversation with the kernel, with a fault point at each batch that changes something. */
export class Conn extends RealConn {
  static override open(options?: SocketOptions): Conn {
    return new Conn(new NetlinkSocket(options));
  }

  override executeBatch(requests: readonly Request[]): readonly BatchResult[] {
    const names = requests.map(({ type }) => messageTypeName(type)).filter((name) => !name.includes("GET"));
    const send = (): readonly BatchResult[] => super.executeBatch(requests);
    return names.length === 0 ? send() : aroundSync([...new Set(names)].join("+"), send);
  }
}
