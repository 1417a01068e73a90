import { type Static, Type } from 'typebox'
import { Empty, Exactly, Name } from './common.js'
import { TaskView, VmDetails } from './host-agent.js'
import { operation } from './operation.js'

const BASE = '/v1/libvirt'
const MAX_XML_CHARACTERS = 256 * 1024

const VmParams = Exactly({ vm: Name })
const DomainXml = Type.String({
  maxLength: MAX_XML_CHARACTERS,
  description: 'description of a domain, as libvirt has it',
})

export const showDomain = operation({
  id: 'showDomain',
  summary: 'The domain of libvirt that a VM is, or would be',
  method: 'GET',
  path: `${BASE}/vms/:vm/domain`,
  status: 200,
  params: VmParams,
  answer: Exactly({ xml: DomainXml }),
})

export const defineInLibvirt = operation({
  id: 'defineInLibvirt',
  summary: 'Make a stopped VM a domain of libvirt, which runs it from then on',
  method: 'POST',
  path: `${BASE}/vms/:vm/define`,
  status: 200,
  params: VmParams,
  body: Empty,
  answer: VmDetails,
})

export const undefineInLibvirt = operation({
  id: 'undefineInLibvirt',
  summary: 'Have a VM run by the agent again; its domain is undefined',
  method: 'POST',
  path: `${BASE}/vms/:vm/undefine`,
  status: 200,
  params: VmParams,
  body: Empty,
  answer: VmDetails,
})

export const startInLibvirt = operation({
  id: 'startVmInLibvirt',
  summary: 'Have libvirt start a VM, with its keys there for as long as that takes',
  method: 'POST',
  path: `${BASE}/vms/:vm/start`,
  status: 200,
  params: VmParams,
  body: Empty,
  answer: VmDetails,
})

export const admitStart = operation({
  id: 'admitStart',
  summary: 'Give the secrets of a VM values in libvirt until it has started, or for some seconds',
  method: 'POST',
  path: `${BASE}/vms/:vm/admission`,
  status: 200,
  params: VmParams,
  body: Exactly({ seconds: Type.Integer({ minimum: 1, maximum: 3600 }) }),
  answer: Empty,
})

export const endAdmission = operation({
  id: 'endAdmission',
  summary: 'Take the values of the secrets of a VM away from libvirt',
  method: 'DELETE',
  path: `${BASE}/vms/:vm/admission`,
  status: 200,
  params: VmParams,
  answer: Empty,
})

export const mendVtpm = operation({
  id: 'mendVtpmInLibvirt',
  summary: 'Restore the state of the virtual TPM of a VM in libvirt, or accept an older one',
  method: 'POST',
  path: `${BASE}/vms/:vm/vtpm`,
  status: 200,
  params: VmParams,
  body: Exactly({ how: Type.Union([Type.Literal('restore'), Type.Literal('accept')]) }),
  answer: VmDetails,
})

const HostFile = Type.String({
  pattern: '^/',
  maxLength: 4096,
  description: 'file on the host with a passphrase, mode 0600',
})

export const DomainAdopt = Exactly({
  xml: DomainXml,
  /** Else that of the domain. */
  name: Type.Optional(Name),
  /** Without it, the default of this host. */
  provider: Type.Optional(Name),
  vtpm: Type.Optional(
    Type.Union([Type.Literal('keep'), Type.Literal('new'), Type.Literal('none')], {
      description: 'that of the domain (default where it has one), a new one, or none',
    }),
  ),
  /** Of disks that are LUKS volumes, by their targets. */
  diskPassphrases: Type.Optional(
    Type.Array(Exactly({ disk: Name, file: HostFile }), { maxItems: 16 }),
  ),
  vtpmPassphraseFile: Type.Optional(HostFile),
})
export type DomainAdopt = Static<typeof DomainAdopt>

export const adoptDomain = operation({
  id: 'adoptDomain',
  summary:
    'Make an encrypted VM of a domain of libvirt that is shut off, and define it in its place',
  method: 'POST',
  path: `${BASE}/domains`,
  status: 202,
  body: DomainAdopt,
  answer: TaskView,
})

const LibvirtEvent = Exactly({
  /** Arguments of the hook, and what it was given on its standard input. */
  domain: Type.String({ maxLength: 4096 }),
  operation: Type.String({ maxLength: 64 }),
  subOperation: Type.String({ maxLength: 64 }),
  xml: DomainXml,
})
export type LibvirtEvent = Static<typeof LibvirtEvent>

export const tellLibvirtEvent = operation({
  id: 'tellLibvirtEvent',
  summary: 'What the hook of libvirt was called with: refused where a domain is not to start',
  method: 'POST',
  path: `${BASE}/events`,
  status: 200,
  body: LibvirtEvent,
  answer: Empty,
})
