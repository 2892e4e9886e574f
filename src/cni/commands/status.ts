// SPDX-License-Identifier: Apache-2.0
import { IPAMError, type IPAMErrorCode } from "../../ipam/errors.ts";
import { askIfAble, DelegateError } from "../delegation/delegate.ts";
import type { Delegation } from "../delegation/types.ts";
import { CNI_CODE, CNIError } from "../errors.ts";
import type { NetConf } from "../input/netconf.ts";
import type { CNI } from "./cni.ts";
import { refuseOtherNode } from "./own-node.ts";

/**
 * For this long the API server may be away: runtimes try an ADD again for longer, and a node that flaps between ready and
 * not does more harm than one that is late.
 */
const AWAY_MS = 60_000;

/** No address can be had, whoever asks how often. The others go away, or somebody is at work. */
const NO_ADDRESS: ReadonlySet<IPAMErrorCode> = new Set<IPAMErrorCode>([
  "NoAddress",
  "BlockLimit",
  "Overlap",
  "PoolNotFound",
]);

/**
 * Whether an ADD would succeed now, and if not why not. Takes nothing and asks the API server for nearly nothing, since
 * runtimes ask every few seconds.
 *
 * @throws CNIError `NotAvailable`, `NotAvailableAndDegraded`, `InvalidNetworkConfig`
 */
export async function status(cni: CNI, conf: NetConf, delegation?: Delegation): Promise<void> {
  refuseOtherNode(cni, conf);
  const { nodeName } = cni.host;
  const awaySinceMs = await cni.datastoreAwaySinceMs?.();
  const awayMs = awaySinceMs === undefined ? 0 : cni.clock.nowMs() - awaySinceMs;
  if (awayMs >= AWAY_MS) {
    const what = `Node ${nodeName} can attach no pod: the API server has not answered for ${Math.floor(awayMs / 1000)} s`;
    throw new CNIError("NotAvailable", `${what}; check that it is up and that this node reaches it`);
  }
  await cni.records.rehearse().catch((error: CNIError) => {
    throw new CNIError("NotAvailable", `Node ${nodeName} can attach no pod: ${error.message}`, { cause: error.cause });
  });
  try {
    await cni.addresses.rehearse({ families: conf.families, pools: conf.pools });
    if (delegation !== undefined) await askIfAble(cni, "STATUS", delegation);
  } catch (cause) {
    if (cause instanceof DelegateError) {
      const isShort = cause.delegateCode === CNI_CODE.NotAvailableAndDegraded;
      const what = `Node ${nodeName} can ${isShort ? "give no pod an address" : "attach no pod"}: ${cause.message}`;
      throw new CNIError(isShort ? "NotAvailableAndDegraded" : "NotAvailable", what, { cause: cause.cause });
    }
    if (!(cause instanceof IPAMError)) throw cause;
    const isShort = NO_ADDRESS.has(cause.code);
    const what = `Node ${nodeName} can ${isShort ? "give no pod an address" : "attach no pod"}: ${cause.message}`;
    throw new CNIError(isShort ? "NotAvailableAndDegraded" : "NotAvailable", what, { cause: cause.cause });
  }
}
