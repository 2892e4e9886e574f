// SPDX-License-Identifier: Apache-2.0

/** What a plugin answered. */
export interface Answer {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Executes the plugin under test with this environment (and PATH), and this standard input. */
export interface Plugin {
  call(env: Readonly<Record<string, string>>, stdin: string): Promise<Answer>;
}

/** An interface as the kernel has it. */
export interface Link {
  readonly name: string;
  readonly mac: string;
  /** Bytes. */
  readonly mtu: number;
  /** Global ones, with their prefix length. */
  readonly addresses: readonly string[];
}

/** The machine that the plugin works on: it makes namespaces for containers, and looks at what the plugin did. */
export interface Machine extends Plugin {
  /** @returns the path of a new network namespace */
  addNamespace(): Promise<string>;
  /** Does nothing when it is gone. */
  removeNamespace(path: string): Promise<void>;
  /** Of the namespace, or of the machine itself; without the loopback. */
  links(path?: string): Promise<readonly Link[]>;
  addLink(path: string, name: string): Promise<void>;
  removeLink(path: string, name: string): Promise<void>;
  /** Takes every global address, of both families, off an interface. */
  removeAddresses(path: string, name: string): Promise<void>;
}

/** A network configuration without `cniVersion`: each check adds the version that it asks for. */
export interface Conf {
  readonly name: string;
  readonly type: string;
  readonly [key: string]: unknown;
}
