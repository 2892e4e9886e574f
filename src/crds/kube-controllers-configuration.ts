// SPDX-License-Identifier: Apache-2.0
import { AGE, type KindDefinition } from "./definition.ts";
import { type FieldReader, openObject, present } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { array, integer, map, object, type Schema, string } from "./schema.ts";

/** The singleton's name. `calicoctl ipam check` refuses to work without this object. */
export const KUBE_CONTROLLERS_CONFIGURATION_NAME = "default";

/** The settings that Gingham reads; others pass through untouched. */
export interface KubeControllersConfigurationSpec {
  readonly controllers: {
    readonly node?: {
      /** A Go duration such as `15m`; 0 switches the collection of leaked addresses off. */
      readonly leakGracePeriod?: string;
      readonly reconcilerPeriod?: string;
    };
  };
}

export interface KubeControllersConfiguration extends KubeObject {
  readonly spec: KubeControllersConfigurationSpec;
}

/** @throws InvalidObjectError */
export function parseKubeControllersConfiguration(raw: unknown): KubeControllersConfiguration {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "KubeControllersConfiguration", raw);
  const controllers = spec.nested("controllers", spec.value("controllers") ?? {});
  const node = controllers.value("node");
  return {
    ...head,
    spec: {
      ...spec.unread(),
      controllers: {
        ...controllers.unread(),
        ...(node === undefined ? {} : { node: parseNode(controllers.nested("node", node)) }),
      },
    },
    ...(status === undefined ? {} : { status }),
  };
}

function parseNode(node: FieldReader): NonNullable<KubeControllersConfigurationSpec["controllers"]["node"]> {
  const known = present({
    leakGracePeriod: node.optionalString("leakGracePeriod"),
    reconcilerPeriod: node.optionalString("reconcilerPeriod"),
  });
  return { ...node.unread(), ...known };
}

export const KUBE_CONTROLLERS_CONFIGURATIONS: Resource<KubeControllersConfiguration> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "KubeControllersConfiguration",
  plural: "kubecontrollersconfigurations",
  namespaced: false,
  parse: parseKubeControllersConfiguration,
};

const RECONCILED = object({ reconcilerPeriod: string("How often everything is compared anew, such as 5m.") });

const HOST_ENDPOINT_TEMPLATE = object({
  generateName: string("Start of the names of the host endpoints.", { maxLength: 253 }),
  interfaceCIDRs: array(string(), "Interfaces with an address in one of these are covered."),
  interfacePattern: string("Interfaces with a matching name are covered."),
  labels: map(string(), "Labels of the host endpoints."),
  nodeSelector: string("The nodes that get one."),
});

const SETTINGS: Schema = object(
  {
    controllers: object(
      {
        node: object({
          reconcilerPeriod: string("How often everything is compared anew, such as 5m."),
          leakGracePeriod: string(
            "How long an address must look leaked before it is freed; 15m when absent, 0s for never.",
          ),
          syncLabels: string("Enabled or Disabled: copy Kubernetes' node labels."),
          hostEndpoint: object({
            autoCreate: string("Enabled or Disabled: a host endpoint for every node."),
            createDefaultHostEndpoint: string("Enabled or Disabled."),
            templates: array(HOST_ENDPOINT_TEMPLATE, "Further host endpoints."),
          }),
        }),
        policy: RECONCILED,
        workloadEndpoint: RECONCILED,
        serviceAccount: RECONCILED,
        namespace: RECONCILED,
        loadBalancer: object({
          assignIPs: string("AllServices or RequestedServicesOnly.", { default: "AllServices" }),
        }),
        policyMigration: object({ enabled: string(undefined, { default: "Enabled", enum: ["Disabled", "Enabled"] }) }),
      },
      { "x-kubernetes-preserve-unknown-fields": true },
    ),
    logSeverityScreen: string("Debug, Info, Warning, Error or Fatal."),
    healthChecks: string("Enabled or Disabled."),
    etcdV3CompactionPeriod: string("How often etcd is compacted, such as 10m; not used with Kubernetes."),
    prometheusMetricsPort: integer("TCP port of the metrics; 0 switches them off."),
    debugProfilePort: integer("TCP port of the profiler; off when absent.", { format: "int32" }),
  },
  { required: ["controllers"], "x-kubernetes-preserve-unknown-fields": true },
);

export const KUBE_CONTROLLERS_CONFIGURATION_KIND: KindDefinition = {
  resource: KUBE_CONTROLLERS_CONFIGURATIONS,
  description: "Settings of the controllers that tidy up behind the nodes. Only the object named default counts.",
  spec: SETTINGS,
  status: object({
    environmentVars: map(string(), "Environment variables that override the specification."),
    runningConfig: { ...SETTINGS, description: "The settings in force." },
  }),
  statusSubresource: true,
  printerColumns: [{ name: "LeakGrace", type: "string", jsonPath: ".spec.controllers.node.leakGracePeriod" }, AGE],
};
