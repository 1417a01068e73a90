import { execFile } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Secret } from '../../../src/core/secret.js'
import { isListening } from '../../../src/host-agent/vm/listening-socket.js'
import { DEFAULT_PROGRAMS } from '../../../src/host-agent/vm/programs.js'
import { readPersistentKey } from '../../../src/host-agent/vm/vtpm-commands.js'
import { withVtpm } from '../../../src/host-agent/vm/vtpm-session.js'
import {
  createAuthority,
  describeTpm,
  parseCertificate,
  readTpmSpecification,
} from '../../../src/pki/index.js'
import { changeAndDie } from './killed.js'
import { siteCertifier } from './site-certifier.js'
import {
  createTestHost,
  findKeys,
  processesNaming,
  type TestHost,
  watchForLeaks,
} from './support.js'

const run = promisify(execFile)
const IS_SLOW = process.env['SLOW'] === '1'
const NV = { 'ek-rsa': 0x01c0_0002, 'ek-ec': 0x01c0_0016, platform: 0x01c0_8000 } as const
type CertificateName = keyof typeof NV

let host: TestHost
let folder: string
let dek: Secret
let files: string

beforeAll(async () => {
  host = await createTestHost({ certifier: await siteCertifier() })
  const { vmId } = await host.vms.create({ name: 'vm', provider: 'kp', memoryMib: 64, disks: [] })
  folder = `${host.directory}/${vmId}`
  dek = new Secret(new Uint8Array(host.keys.seen[1] ?? Buffer.alloc(32)))
  files = await mkdtemp(join(tmpdir(), 'sigillo-certs-'))
})

afterAll(async () => {
  await host[Symbol.asyncDispose]()
  await rm(files, { recursive: true })
})

async function certificates(): Promise<ReadonlyMap<CertificateName, X509Certificate>> {
  const { vtpmCertificates = [] } = await host.vms.show('vm')
  const [rsa = '', ec = '', platform = ''] = vtpmCertificates
  return new Map<CertificateName, X509Certificate>([
    ['ek-rsa', new X509Certificate(rsa)],
    ['ek-ec', new X509Certificate(ec)],
    ['platform', new X509Certificate(platform)],
  ])
}

/** What a guest finds: a copy of the state is started, and read with tpm2-tools. */
async function seenByGuest(): Promise<{
  readonly nv: ReadonlyMap<CertificateName, Buffer>
  readonly attributes: string
  readonly keys: readonly string[]
}> {
  const state = await mkdtemp(join(tmpdir(), 'sgv-'))
  try {
    await mkdir(`${state}/s`, { mode: 0o700 })
    await copyFile(`${folder}/vtpm/tpm2-00.permall`, `${state}/tpm2-00.permall`)
    const options = { programs: DEFAULT_PROGRAMS, stateDirectory: state, dek }
    const keys = await withVtpm({ ...options, socketDirectory: `${state}/s` }, async (session) => {
      const digests: string[] = []
      for (const handle of [0x8101_0001, 0x8101_0016]) {
        const spki = await readPersistentKey(session, handle)
        digests.push(createHash('sha256').update(spki).digest('hex'))
      }
      return digests
    })
    const port = join(state, 'sock')
    const key = join(state, 'key')
    await writeFile(
      key,
      dek.use((octets) => Buffer.from(octets).toString('hex')),
      { mode: 0o600 },
    )
    const swtpm = execFile('swtpm', [
      ...[
        'socket',
        '--tpm2',
        '--tpmstate',
        `dir=${state}`,
        '--key',
        `file=${key},mode=aes-256-cbc`,
      ],
      ...['--server', `type=unixio,path=${port}`, '--ctrl', `type=unixio,path=${port}.ctrl`],
      ...['--flags', 'not-need-init,startup-clear'],
    ])
    try {
      while (!(await isListening(`${port}.ctrl`))) await delay(5)
      const tool = (program: string, ...args: readonly string[]) =>
        run(program, [...args, '-T', `swtpm:path=${port}`], { encoding: 'buffer' })
      const nv = new Map<CertificateName, Buffer>()
      for (const [name, index] of Object.entries(NV)) {
        const { stdout } = await tool('tpm2_nvread', '-C', 'o', `0x${index.toString(16)}`)
        nv.set(name as CertificateName, stdout)
      }
      const { stdout } = await tool('tpm2_nvreadpublic')
      return { nv, attributes: stdout.toString('latin1'), keys }
    } finally {
      swtpm.kill()
    }
  } finally {
    await rm(state, { recursive: true })
  }
}

describe('certificates that the site issues anew', () => {
  let before: Awaited<ReturnType<typeof seenByGuest>>
  let old: ReadonlyMap<CertificateName, X509Certificate>
  let leaks: readonly string[]
  const steps: string[] = []

  beforeAll(async () => {
    before = await seenByGuest()
    old = await certificates()
    const watch = watchForLeaks(host)
    await host.vms.replaceVtpmCertificates('vm', { onProgress: (step) => steps.push(step) })
    leaks = await watch.stop()
  })

  test('are where the guest looks for them, and are others than before', async () => {
    const { nv } = await seenByGuest()
    const { vmId } = await host.vms.show('vm')
    for (const [name, certificate] of await certificates()) {
      expect(certificate.subject).toBe(`CN=${vmId}`)
      expect(nv.get(name)?.equals(certificate.raw)).toBe(true)
      expect(certificate.fingerprint256).not.toBe(old.get(name)?.fingerprint256)
    }
  })

  test('describe the virtual TPM as those of its manufacture do, which specification it has too', async () => {
    const described = (all: ReadonlyMap<CertificateName, X509Certificate>) =>
      (['ek-rsa', 'ek-ec'] as const).map((name) => {
        const certificate = parseCertificate(all.get(name)?.raw ?? new Uint8Array())
        return { ...describeTpm(certificate), of: readTpmSpecification(certificate) }
      })
    const [rsa, ecc] = described(old)
    expect(rsa).toMatchObject({ model: 'swtpm', of: { family: '2.0', level: 0 } })
    expect(rsa?.of?.revision).toBeGreaterThanOrEqual(138)
    expect(ecc).toEqual(rsa)
    expect(described(await certificates())).toEqual([rsa, ecc])
  })

  test('are for the keys that the virtual TPM had and has', async () => {
    const { keys } = await seenByGuest()
    expect(keys).toEqual(before.keys)
  })

  test('are locked, as the ones before', async () => {
    const { attributes } = await seenByGuest()
    expect(attributes.match(/writelocked/g)).toHaveLength(3)
    // size is part of what an index is named by
    const withoutSizes = (text: string) => text.replaceAll(/(size|name): .*/g, '')
    expect(withoutSizes(attributes)).toBe(withoutSizes(before.attributes))
  })

  test('came step by step, with no key in a file, and left nothing', async () => {
    expect(steps).toEqual([
      ...['vtpm: certificates', 'vtpm: commit', 'vtpm: place', 'vtpm: erase', 'done'],
    ])
    expect(leaks).toEqual([])
    expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
    expect(processesNaming(host.directory)).toEqual([])
    expect((await readdir(folder)).sort()).toEqual([
      ...['home.enc', 'keys.json', 'nvram.luks', 'vm.json', 'vtpm', 'vtpm-backup.permall'],
      'vtpm.json',
    ])
  })

  test('are in a virtual TPM that starts', async () => {
    await host.vms.start('vm')
    await expect(host.vms.replaceVtpmCertificates('vm')).rejects.toMatchObject({
      code: 'VM_RUNNING',
    })
    await host.vms.stop('vm', { graceSeconds: 0 })
  })
})

describe('the old certificates stay', () => {
  const unchanged = async (attempt: () => Promise<unknown>, code: string): Promise<void> => {
    const before = await certificates()
    const state = await readFile(`${folder}/vtpm/tpm2-00.permall`)
    await expect(attempt()).rejects.toMatchObject({ code })
    expect(await readFile(`${folder}/vtpm/tpm2-00.permall`)).toEqual(state)
    expect([...(await certificates()).values()].map(String)).toEqual(
      [...before.values()].map(String),
    )
    expect(processesNaming(host.directory)).toEqual([])
  }

  test('when the authority issues one for another key', async () => {
    const certifier = await siteCertifier()
    let first: Uint8Array | undefined
    const mixed = host.restart({
      certifier: {
        ...certifier,
        certify: async (request) => {
          first ??= await certifier.certify(request)
          return first
        },
      },
    })
    await unchanged(() => mixed.replaceVtpmCertificates('vm'), 'VTPM_CERTIFICATE')
  })

  test('when the VM has no virtual TPM', async () => {
    await host.vms.create({ name: 'bare', provider: 'kp', vtpm: false, disks: [] })
    await expect(host.vms.replaceVtpmCertificates('bare')).rejects.toMatchObject({
      code: 'VM_PLAIN',
    })
    await host.vms.delete('bare')
  })

  test.each(IS_SLOW ? ['certificates', 'commit'] : ['commit'])(
    'when the agent is killed at the step %s',
    async (step) => {
      const before = await certificates()
      await changeAndDie(host, 'replaceCertificates', 'vm', `vtpm: ${step}`)
      await expect.poll(() => processesNaming(host.directory), { timeout: 2000 }).toEqual([])
      await using next = host.restart()
      await next.recover()
      expect([...(await certificates()).values()].map(String)).toEqual(
        [...before.values()].map(String),
      )
      await next.start('vm')
      await next.stop('vm', { graceSeconds: 0 })
    },
  )
})

test('an agent that is killed when the change was made has replaced them when it recovers', async () => {
  const before = await certificates()
  await changeAndDie(host, 'replaceCertificates', 'vm', 'vtpm: place')
  await using next = host.restart()
  await next.recover()
  const after = await certificates()
  const { nv } = await seenByGuest()
  for (const [name, certificate] of after) {
    expect(certificate.fingerprint256).not.toBe(before.get(name)?.fingerprint256)
    expect(nv.get(name)?.equals(certificate.raw)).toBe(true)
  }
})

describe('a certificate by an authority elsewhere', () => {
  let ca: { readonly key: string; readonly pem: string }

  beforeAll(async () => {
    ca = { key: join(files, 'ca.key'), pem: join(files, 'ca.pem') }
    await run('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-subj', '/CN=Corporate CA', '-days', '10', '-keyout', ca.key, '-out', ca.pem],
      ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    ])
  })

  async function requestOf(kind: 'rsa' | 'ecc'): Promise<{ csr: string; key: string }> {
    const { request, publicKey } = await host.vms.requestVtpmCertificate('vm', kind)
    const csr = join(files, `${kind}.csr`)
    const key = join(files, `${kind}.pub`)
    await writeFile(csr, request)
    await writeFile(`${key}.der`, publicKey)
    await run('openssl', ['pkey', '-pubin', '-inform', 'DER', '-in', `${key}.der`, '-out', key])
    return { csr, key }
  }

  /** As an administrator of that authority does it: the extensions of the request, the key of the request. */
  async function certifiedBy(kind: 'rsa' | 'ecc', extensions: string): Promise<string> {
    const { vmId } = await host.vms.show('vm')
    const { key } = await requestOf(kind)
    const config = join(files, 'extensions')
    await writeFile(
      config,
      `[ext]\n${extensions}\n[tpm]\n1.2.23.133.2.1=id:00001014\n2.2.23.133.2.2=swtpm\n3.2.23.133.2.3=id:20191023\n`,
    )
    const out = join(files, `${kind}.pem`)
    await run('openssl', [
      ...['x509', '-new', '-subj', `/CN=${vmId}`, '-force_pubkey', key, '-days', '5'],
      ...['-CA', ca.pem, '-CAkey', ca.key, '-extfile', config, '-extensions', 'ext', '-out', out],
    ])
    return readFile(out, 'utf8')
  }

  const profile = (usage: string) =>
    `basicConstraints=critical,CA:FALSE\nkeyUsage=critical,${usage}\nextendedKeyUsage=2.23.133.8.1\n` +
    'subjectAltName=critical,dirName:tpm'

  test.each([
    ['rsa', 'Public-Key: (2048 bit)', 'Key Encipherment'],
    ['ecc', 'ASN1 OID: secp384r1', 'Key Agreement'],
  ] as const)(
    'is asked for with a request for the %s key that openssl reads',
    async (kind, ...texts) => {
      const { csr } = await requestOf(kind)
      const { stdout } = await run('openssl', [
        'req',
        '-inform',
        'DER',
        '-in',
        csr,
        '-noout',
        '-text',
      ])
      const names = ['2.23.133.8.1', '2.23.133.2.1', 'Subject Directory Attributes', 'urn:uuid:']
      for (const text of [...texts, ...names]) {
        expect(stdout).toContain(text)
      }
      expect(stdout).toMatch(/noSignature|1\.3\.6\.1\.5\.5\.7\.6\.2/)
      const keyText = (kind === 'rsa' ? 'ek-rsa' : 'ek-ec') as CertificateName
      const key = (await certificates()).get(keyText)?.publicKey
      const der = key?.export({ type: 'spki', format: 'der' }) ?? Buffer.alloc(1)
      expect((await readFile(csr)).includes(der)).toBe(true)
    },
  )

  test('leaves the virtual TPM as it is while it is asked for', async () => {
    const state = await readFile(`${folder}/vtpm/tpm2-00.permall`)
    await host.vms.requestVtpmCertificate('vm', 'rsa')
    expect(await readFile(`${folder}/vtpm/tpm2-00.permall`)).toEqual(state)
    expect(await readdir(folder)).not.toContain('change')
    expect(processesNaming(host.directory)).toEqual([])
  })

  test('takes the place of that of its key, and of no other', async () => {
    const before = await certificates()
    const certificate = await certifiedBy('ecc', profile('keyAgreement'))
    const authorities = await readFile(ca.pem, 'utf8')
    await host.vms.importVtpmCertificate('vm', { certificate, authorities })
    const { nv } = await seenByGuest()
    expect(nv.get('ek-ec')?.equals(new X509Certificate(certificate).raw)).toBe(true)
    for (const name of ['ek-rsa', 'platform'] as const) {
      expect(nv.get(name)?.equals(before.get(name)?.raw ?? Buffer.alloc(0))).toBe(true)
    }
    await host.vms.start('vm')
    await host.vms.stop('vm', { graceSeconds: 0 })
  })

  test('is refused with all that is wrong with it', async () => {
    const authorities = await readFile(ca.pem, 'utf8')
    const wrong = 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature'
    const certificate = await certifiedBy('rsa', wrong)
    await expect(
      host.vms.importVtpmCertificate('vm', { certificate, authorities }),
    ).rejects.toMatchObject({
      ...{ code: 'VTPM_CERTIFICATE' },
      message: expect.stringMatching(/EK_CERT_EKU.*EK_CERT_KEY_USAGE.*EK_CERT_SAN/),
    })
  })

  test('is refused by another authority than the given one, for another key, or when there are two', async () => {
    const certificate = await certifiedBy('rsa', profile('keyEncipherment'))
    const authorities = await readFile(ca.pem, 'utf8')
    const stranger = await createAuthority({
      ...{ commonName: 'Other', keyType: 'p256', validityDays: 1, now: Date.now() },
    })
    for (const request of [
      { certificate, authorities: stranger.certificatePem },
      { certificate: stranger.certificatePem, authorities },
      { certificate: certificate + authorities, authorities },
      { certificate: authorities, authorities },
    ]) {
      await expect(host.vms.importVtpmCertificate('vm', request)).rejects.toMatchObject({
        code: 'VTPM_CERTIFICATE',
      })
    }
    await expect(
      host.vms.importVtpmCertificate('vm', { certificate: 'no certificate', authorities }),
    ).rejects.toMatchObject({ code: expect.stringMatching(/^CERT_/) })
  })
})
