// SPDX-License-Identifier: Apache-2.0
import { AGE, type KindDefinition } from "./definition.ts";
import { openObject, present } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { boolean, integer, object, string } from "./schema.ts";

/** The singleton's name. */
export const IPAM_CONFIG_NAME = "default";

export interface IPAMConfigSpec {
  readonly strictAffinity: boolean;
  readonly autoAllocateBlocks: boolean;
  /** 0: not limited here. */
  readonly maxBlocksPerHost: number;
  readonly kubeVirtVMAddressPersistence: "Enabled" | "Disabled";
  /** Units: seconds. */
  readonly ipCooldownSeconds: number;
}

export interface IPAMConfig extends KubeObject {
  readonly spec: IPAMConfigSpec;
}

/** What holds while the object does not exist. Only NotFound means that: other errors must propagate. */
export const DEFAULT_IPAM_CONFIG: IPAMConfigSpec = {
  strictAffinity: false,
  autoAllocateBlocks: true,
  maxBlocksPerHost: 0,
  kubeVirtVMAddressPersistence: "Enabled",
  ipCooldownSeconds: 0,
};

const PERSISTENCE = ["Enabled", "Disabled"] as const;

/** @throws InvalidObjectError */
export function parseIPAMConfig(raw: unknown): IPAMConfig {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "IPAMConfig", raw);
  const known = {
    ...DEFAULT_IPAM_CONFIG,
    ...present({
      strictAffinity: spec.optionalBoolean("strictAffinity"),
      autoAllocateBlocks: spec.optionalBoolean("autoAllocateBlocks"),
      maxBlocksPerHost: spec.optionalInteger("maxBlocksPerHost", 0, 2147483647),
      kubeVirtVMAddressPersistence: spec.optionalEnum("kubeVirtVMAddressPersistence", PERSISTENCE),
      ipCooldownSeconds: spec.optionalInteger("ipCooldownSeconds", 0, 1200),
    }),
  };
  return { ...head, spec: { ...spec.unread(), ...known }, ...(status === undefined ? {} : { status }) };
}

export const IPAM_CONFIGS: Resource<IPAMConfig> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "IPAMConfig",
  plural: "ipamconfigs",
  namespaced: false,
  parse: parseIPAMConfig,
};

/** What Calico's writers refuse. Source: calico-interop 1.3. */
const CONFIG_RULES = [
  {
    rule: "self.strictAffinity || self.autoAllocateBlocks",
    message:
      "with strictAffinity and autoAllocateBlocks both false nodes neither claim blocks nor borrow: set one of them to true",
  },
  {
    rule: "!has(self.maxBlocksPerHost) || self.maxBlocksPerHost == 0 || self.strictAffinity",
    message: "maxBlocksPerHost needs strictAffinity: set strictAffinity to true, or maxBlocksPerHost to 0",
  },
] as const;

export const IPAM_CONFIG_KIND: KindDefinition = {
  resource: IPAM_CONFIGS,
  description: "How addresses are assigned in the whole cluster. Only the object named default counts.",
  spec: object(
    {
      strictAffinity: boolean("Never give a node an address out of another node's block."),
      autoAllocateBlocks: boolean("Claim a new block for a node whose blocks are full."),
      maxBlocksPerHost: integer("How many blocks a node may own; 0 leaves the built-in limit.", {
        minimum: 0,
        maximum: 2147483647,
      }),
      kubeVirtVMAddressPersistence: string("Whether a virtual machine keeps its address when it moves.", {
        enum: PERSISTENCE,
      }),
      ipCooldownSeconds: integer("How long a released address rests before it is given again.", {
        minimum: 0,
        maximum: 1200,
      }),
    },
    { required: ["autoAllocateBlocks", "strictAffinity"], "x-kubernetes-validations": CONFIG_RULES },
  ),
  printerColumns: [
    { name: "Strict", type: "boolean", jsonPath: ".spec.strictAffinity" },
    { name: "MaxBlocks", type: "integer", jsonPath: ".spec.maxBlocksPerHost" },
    { name: "Cooldown", type: "integer", jsonPath: ".spec.ipCooldownSeconds" },
    AGE,
  ],
};
