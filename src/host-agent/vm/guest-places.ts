import { pathsOf } from './layout.js'
import { readVtpmCertificates } from './vtpm.js'

/** Where VMs in a directory have the ports of their guests and the certificates of their virtual TPMs. */
export function guestPlaces(directory: string) {
  return {
    socketOf: (vmId: string) => pathsOf(`${directory}/${vmId}`).guestSocket,
    certificatesOf: (vmId: string) => readVtpmCertificates(pathsOf(`${directory}/${vmId}`)),
  }
}
