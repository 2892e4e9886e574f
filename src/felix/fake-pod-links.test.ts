// SPDX-License-Identifier: Apache-2.0
import { FakePodLinks } from "./fake-pod-links.ts";
import { podLinksContract } from "./pod-links.contract.ts";

podLinksContract("fake", async () => {
  const podLinks = new FakePodLinks();
  return {
    podLinks,
    addLink: async ({ hostIface }) => podLinks.addLink(hostIface),
    deleteLink: async ({ hostIface }) => podLinks.deleteLink(hostIface),
    set: (file, value) => podLinks.set(file, value),
    read: (file) => podLinks.read(file),
    close: async () => {},
  };
});
