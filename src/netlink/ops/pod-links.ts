// SPDX-License-Identifier: Apache-2.0
import type { LinkSetting, PodLink, PodLinks } from "../../felix/ports.ts";
import { hasIPv6, readSysctl, writeSysctl } from "../sysctl.ts";
import { hostSysctls } from "./pod-requests.ts";

/** Reads and writes what the wiring has set on pods' links, from the calling thread's namespace, which is the host's. */
export class KernelPodLinks implements PodLinks {
  async listChanged(links: readonly PodLink[]): Promise<readonly LinkSetting[]> {
    const hostHasIPv6 = hasIPv6();
    return links
      .flatMap((link) => hostSysctls(link, hostHasIPv6))
      .filter(([path, value]) => {
        const actual = readSysctl(path);
        return actual !== undefined && actual !== String(value);
      })
      .map(([path, value]) => ({ path, value }));
  }

  async write(settings: readonly LinkSetting[]): Promise<readonly (Error | undefined)[]> {
    return settings.map(({ path, value }) => {
      try {
        writeSysctl(path, value);
        return undefined;
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        return readSysctl(path) === undefined ? undefined : error;
      }
    });
  }
}
