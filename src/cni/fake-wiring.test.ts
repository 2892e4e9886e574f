// SPDX-License-Identifier: Apache-2.0
import { FakeWiring } from "./fake-wiring.ts";
import { describeWiring } from "./wiring.contract.ts";

describeWiring("fake", async () => {
  const wiring = new FakeWiring();
  const { kernel } = wiring;
  return {
    wiring,
    addNetns: async (name) => {
      kernel.addNetns(`/run/netns/${name}`);
      return `/run/netns/${name}`;
    },
    removeNetns: async (name) => kernel.removeNetns(`/run/netns/${name}`),
    addForeignIface: async (name, iface) => kernel.addForeignIface(`/run/netns/${name}`, iface),
    hostIfIndexOf: async (hostIface) => kernel.linkOf(hostIface)?.hostIfIndex,
    [Symbol.asyncDispose]: async () => {},
  };
});
