import { Type } from 'typebox'
import { Exactly, Name } from '../api/common.js'
import { LOG_LEVELS } from '../core/logger.js'
import { DEFAULT_LIBVIRT } from './libvirt/options.js'

/** Configuration of a host agent: `agent.toml`, `SIGILLO_AGENT_…`, flags. */
export const AgentConfig = Exactly({
  hostId: Type.Intersect([Name, Type.String({ description: 'name of this host' })]),
  stateDirectory: Type.String({
    default: '/var/lib/sigillo-agent',
    description: 'where the attestation key and host keys (wrapped by the TPM) are kept; mode 0700',
  }),
  socket: Type.String({
    default: '/run/sigillo/agent.sock',
    maxLength: 107,
    description: 'unix socket of the agent; mode 0600',
  }),
  logLevel: Type.Union(
    LOG_LEVELS.map((level) => Type.Literal(level)),
    { default: 'info', description: 'error, warn, info, debug or silent' },
  ),
  authority: Exactly({
    url: Type.String({ description: 'URL of the authority' }),
    caFile: Type.String({ description: 'certificate authority of its TLS certificate, PEM' }),
    ticketFile: Type.Optional(
      Type.String({ description: 'file with the enrolment ticket, mode 0600; needed once' }),
    ),
  }),
  tpm: Exactly({
    tcti: Type.String({
      default: 'device:/dev/tpmrm0',
      description: 'TPM of this host: device:<path>, or swtpm:path=<socket> in development',
    }),
    endorsementKey: Type.Union(
      [
        Type.Literal('auto'),
        Type.Literal('eccP384'),
        Type.Literal('eccP256'),
        Type.Literal('rsa2048'),
      ],
      {
        default: 'auto',
        description: 'endorsement key to enrol with; auto takes the first that has a certificate',
      },
    ),
    device: Type.Optional(
      Exactly(
        {
          handle: Type.Integer({
            minimum: 0x8100_0000,
            maximum: 0x81ff_ffff,
            description: 'persistent handle of the initial attestation key (IAK) of the machine',
          }),
          certificateFile: Type.String({
            description: 'its certificate, PEM or DER: the host enrols by it',
          }),
        },
        'key that the machine was delivered with (IAK): `handle`, its persistent handle in the TPM, and `certificateFile`',
      ),
    ),
    attestationKey: Type.Union([Type.Literal('ecc-p256'), Type.Literal('rsa-2048')], {
      default: 'ecc-p256',
      description: 'kind of the attestation key',
    }),
    bindingKey: Type.Boolean({
      default: true,
      description: 'keep a key in the TPM that opens answers only while the PCRs stay as attested',
    }),
    imaListFile: Type.String({
      default: '/sys/kernel/security/ima/binary_runtime_measurements',
      description: 'measurement list of the kernel (IMA), binary; read where the policy wants it',
    }),
    eventLogFile: Type.String({
      default: '/sys/kernel/security/tpm0/binary_bios_measurements',
      description: 'boot event log of the firmware; may be absent',
    }),
  }),
  vm: Exactly({
    directory: Type.String({
      default: '/var/lib/sigillo-agent/vms',
      description: 'where VMs are kept; mode 0700, or 0711 once a VM is defined in libvirt',
    }),
    importDirectories: Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), {
      default: [],
      maxItems: 16,
      description:
        'directories, of root and on the file system of the VMs, that disks are attached from; those that were detached here can be always',
    }),
    lockMemory: Type.Boolean({
      default: false,
      description:
        'keep all memory of VMs in RAM, so that nothing of it is swapped out; takes a limit of locked memory that allows it',
    }),
    onRevocation: Type.Union([Type.Literal('keep'), Type.Literal('stop')], {
      default: 'keep',
      description:
        'what becomes of encrypted VMs that run when the host is refused or revoked: keep, or stop; none can be started',
    }),
    revocationGraceSeconds: Type.Integer({
      default: 60,
      minimum: 0,
      maximum: 3600,
      description: 'how long guests may take to power off before they are stopped for that',
    }),
  }),
  vtpm: Exactly({
    rollback: Type.Union([Type.Literal('refuse'), Type.Literal('warn')], {
      default: 'refuse',
      description: 'what becomes of an older state of a virtual TPM that was put back',
    }),
  }),
  libvirt: Exactly({
    uri: Type.String({
      default: DEFAULT_LIBVIRT.uri,
      description: 'where libvirt is, for VMs that it runs',
    }),
    swtpmDirectory: Type.String({
      default: DEFAULT_LIBVIRT.swtpmDirectory,
      pattern: '^(/[A-Za-z0-9._-]+)+$',
      description: 'where libvirt has the states of virtual TPMs',
    }),
  }),
})
