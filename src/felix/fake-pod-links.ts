// SPDX-License-Identifier: Apache-2.0
import type { LinkSetting, PodLink, PodLinks } from "./ports.ts";

/** Pods' links with two of their settings. It passes `pod-links.contract.ts`, which the real one passes, too. */
export class FakePodLinks implements PodLinks {
  looks = 0;
  readonly written: LinkSetting[] = [];
  /** Makes a write fail. */
  refuse: ((setting: LinkSetting) => Error | undefined) | undefined;
  /** Values by file. */
  readonly #files = new Map<string, 0 | 1>();

  addLink(hostIface: string): void {
    for (const { path, value } of settingsOf({ hostIface, ips: [] })) this.#files.set(path.join("/"), value);
  }

  deleteLink(hostIface: string): void {
    for (const { path } of settingsOf({ hostIface, ips: [] })) this.#files.delete(path.join("/"));
  }

  /** What other programs do. */
  set(file: string, value: 0 | 1): void {
    this.#files.set(file, value);
  }

  read(file: string): 0 | 1 | undefined {
    return this.#files.get(file);
  }

  async listChanged(links: readonly PodLink[]): Promise<readonly LinkSetting[]> {
    this.looks++;
    return links.flatMap(settingsOf).filter(({ path, value }) => {
      const actual = this.#files.get(path.join("/"));
      return actual !== undefined && actual !== value;
    });
  }

  async write(settings: readonly LinkSetting[]): Promise<readonly (Error | undefined)[]> {
    return settings.map((setting) => {
      const file = setting.path.join("/");
      if (!this.#files.has(file)) return undefined;
      const error = this.refuse?.(setting);
      if (error !== undefined) return error;
      this.written.push(setting);
      this.#files.set(file, setting.value);
      return undefined;
    });
  }
}

function settingsOf({ hostIface }: PodLink): LinkSetting[] {
  return ["proxy_arp", "forwarding"].map((name) => ({ path: ["ipv4", "conf", hostIface, name], value: 1 }));
}
