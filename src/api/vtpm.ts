import { type Static, Type } from 'typebox'
import { Empty, Exactly, Name } from './common.js'
import { TaskView, VmDetails } from './host-agent.js'
import { operation } from './operation.js'

/** Virtual TPMs of VMs of one host, on the socket of its agent. */
const BASE = '/v1/vms/:vm/vtpm'

const VmParams = Exactly({ vm: Name })

export const addVtpm = operation({
  id: 'addVtpm',
  summary: 'Add a virtual TPM to a stopped VM whose home is encrypted',
  method: 'POST',
  path: BASE,
  status: 202,
  params: VmParams,
  body: Empty,
  answer: TaskView,
})

export const removeVtpm = operation({
  id: 'removeVtpm',
  summary: 'Take the virtual TPM out of a stopped VM',
  method: 'DELETE',
  path: BASE,
  status: 200,
  params: VmParams,
  answer: VmDetails,
})

export const acceptVtpmState = operation({
  id: 'acceptVtpmState',
  summary: 'Start from a state of the virtual TPM that is refused as an older one',
  method: 'POST',
  path: `${BASE}/accept-state`,
  status: 200,
  params: VmParams,
  body: Empty,
  answer: VmDetails,
})

export const restoreVtpmState = operation({
  id: 'restoreVtpmState',
  summary: 'Put the copy of the last recorded state in the place of one that is missing or damaged',
  method: 'POST',
  path: `${BASE}/restore-state`,
  status: 200,
  params: VmParams,
  body: Empty,
  answer: VmDetails,
})

export const replaceVtpmCertificates = operation({
  id: 'replaceVtpmCertificates',
  summary: 'Have the certificates of the virtual TPM of a stopped VM issued anew by the site',
  method: 'POST',
  path: `${BASE}/replace-certificates`,
  status: 202,
  params: VmParams,
  body: Empty,
  answer: TaskView,
})

export const VtpmCertificateImport = Exactly({
  certificate: Type.String({ maxLength: 16_384, description: 'certificate of the key, PEM' }),
  authorities: Type.String({
    maxLength: 32_768,
    description: 'certificates of its authority and of those between, PEM',
  }),
})
export type VtpmCertificateImport = Static<typeof VtpmCertificateImport>

export const importVtpmCertificate = operation({
  id: 'importVtpmCertificate',
  summary: 'Put the certificate of an authority elsewhere into the virtual TPM of a stopped VM',
  method: 'POST',
  path: `${BASE}/import-certificate`,
  status: 202,
  params: VmParams,
  body: VtpmCertificateImport,
  answer: TaskView,
})

export const requestVtpmCertificate = operation({
  id: 'requestVtpmCertificate',
  summary: 'A request for a certificate of an endorsement key of the virtual TPM of a stopped VM',
  method: 'POST',
  path: `${BASE}/certificate-request`,
  status: 200,
  params: VmParams,
  body: Exactly({ key: Type.Union([Type.Literal('rsa'), Type.Literal('ecc')]) }),
  answer: Exactly({
    request: Type.String({ description: 'PKCS#10 without a signature, PEM' }),
    publicKey: Type.String({ description: 'the endorsement key, PEM' }),
  }),
})
