import { describe, expect, test } from 'vitest'
import { editDomain } from '../../../src/host-agent/libvirt/edit-domain.js'
import { planAdoption } from '../../../src/host-agent/libvirt/plan-adoption.js'
import { pathsOf } from '../../../src/host-agent/vm/layout.js'

const UUID = '6f1c1d9e-5c52-4f0b-9a7e-0d6d1f0f7a11'
const DISK =
  "<disk type='file'><driver name='qemu' type='qcow2'/><source file='/a.qcow2'/><target dev='vda'/></disk>"

function domain(devices = DISK, rest = ''): string {
  return `<domain type='kvm'><name>web1</name><uuid>${UUID}</uuid><memory unit='KiB'>1048576</memory><vcpu placement='static'>2</vcpu>${rest}<devices>${devices}</devices></domain>`
}

const refused = (xml: string, more: object = {}) =>
  expect(() => planAdoption({ xml, ...more })).toThrow(
    expect.objectContaining({ code: 'LIBVIRT_DOMAIN' }),
  )

describe('a domain of libvirt', () => {
  test('is read as the VM that it becomes', () => {
    expect(planAdoption({ xml: domain() })).toEqual({
      ...{ vmId: UUID, name: 'web1', memoryMib: 1024, cpus: 2, vtpm: 'none', nvram: undefined },
      disks: [{ name: 'vda', file: '/a.qcow2', passphraseFile: undefined }],
    })
  })

  test('may have drives with media, which are not its disks', () => {
    const drive = "<disk type='file' device='cdrom'><target dev='sda'/></disk>"
    expect(planAdoption({ xml: domain(`${DISK}${drive}`) }).disks).toHaveLength(1)
  })

  test.each([
    ['entities', `<!DOCTYPE domain [<!ENTITY a "aaaa">]>${domain()}`],
    ['a document type of elsewhere', `<!DOCTYPE domain SYSTEM "file:///etc/passwd">${domain()}`],
    ['more text than a domain has', domain(`${DISK}<!--${'x'.repeat(300_000)}-->`)],
    ['elements in one another without end', domain(`${'<a>'.repeat(500)}${'</a>'.repeat(500)}`)],
    ['another root', domain().replaceAll('domain', 'network')],
    ['a name space', domain().replace('<domain ', "<domain xmlns='urn:other' ")],
    ['no end', domain().slice(0, -5)],
    ['two ids', domain().replace('<uuid>', `<uuid>${UUID}</uuid><uuid>`)],
    ['no id', domain().replace(/<uuid>.*<\/uuid>/, '')],
    ['a name that is a path', domain().replace('web1', '../web1')],
    ['no unit of memory that is known', domain().replace("'KiB'", "'pages'")],
    ['nothing', ''],
  ])('is refused with %s', (_, xml) => refused(xml))

  test.each([
    ['on the network', "<disk type='network'><target dev='vda'/></disk>"],
    ['that is a device', "<disk type='block'><source dev='/dev/sdb'/><target dev='vda'/></disk>"],
    ['of a storage pool', "<disk type='volume'><target dev='vda'/></disk>"],
    ['passed through', DISK.replace("type='file'", "type='file' device='lun'")],
    ['of another format', DISK.replace('qcow2', 'vmdk')],
    ['whose format is to be guessed', DISK.replace(" type='qcow2'/>", '/>')],
    ['shared with others', DISK.replace('<target', '<shareable/><target')],
    ['that forgets', DISK.replace('<target', '<transient/><target')],
    [
      'with a backing file',
      DISK.replace(
        '<target',
        "<backingStore type='file'><source file='/b'/></backingStore><target",
      ),
    ],
    ['twice', `${DISK}${DISK}`],
    ['whose target is a path', DISK.replace('vda', '../x')],
    [
      'that is encrypted, without its passphrase',
      DISK.replace('qcow2', 'raw').replace('<target', "<encryption format='luks'/><target"),
    ],
    ['encrypted within qcow2', DISK.replace('<target', "<encryption format='luks'/><target")],
  ])('is refused with a disk %s', (_, disk) => refused(domain(disk)))

  test('is refused with a TPM that is none of ours to take, or two of them', () => {
    const tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    expect(planAdoption({ xml: domain(`${DISK}${tpm}`) }).vtpm).toBe('keep')
    refused(domain(`${DISK}${tpm}${tpm}`))
    refused(domain(`${DISK}${tpm.replace('emulator', 'passthrough')}`))
    refused(domain(`${DISK}${tpm.replace('2.0', '1.2')}`))
    refused(domain(), { vtpm: 'keep' })
  })

  test('is read with its firmware variables, where they are a plain file', () => {
    const nvramOf = (nvram: string) =>
      planAdoption({ xml: domain(DISK, `<os><type>hvm</type>${nvram}</os>`) }).nvram
    expect(nvramOf('<nvram>/vars.fd</nvram>')).toBe('/vars.fd')
    expect(nvramOf("<nvram type='file'><source file='/vars.fd'/></nvram>")).toBe('/vars.fd')
    const encryption = "<encryption format='luks' engine='qemu'/>"
    for (const wrong of [
      "<nvram type='network'><source protocol='nbd' name='vars'/></nvram>",
      "<nvram format='qcow2'>/vars.qcow2</nvram>",
      `<nvram type='file'><source file='/vars.luks'>${encryption}</source></nvram>`,
    ]) {
      refused(domain(DISK, `<os><type>hvm</type>${wrong}</os>`))
    }
  })

  test('has the firmware variables of its VM, also where libvirt would make some', () => {
    const edit = (os: string) =>
      editDomain(domain(DISK, `<os${os}<type>hvm</type></os>`), {
        paths: pathsOf('/vms/one'),
        descriptor: {
          ...{ format: 1, vmId: UUID, name: 'web1', createdAt: '2026-01-01T00:00:00Z' },
          ...{ vtpm: false, disks: [], nvram: 'encrypted' },
        },
      })
    expect(edit(" firmware='efi'>")).toMatch(/<source file="\/vms\/one\/nvram.luks"><encryption/)
    expect(edit("><loader type='pflash'>/code.fd</loader>")).toContain('nvram.luks')
    expect(edit('><nvram>/elsewhere.fd</nvram>')).not.toContain('elsewhere')
    expect(edit('>')).not.toContain('nvram')
  })

  test('is refused with a passphrase for a disk that has none, or is not there', () => {
    refused(domain(), { diskPassphrases: [{ disk: 'vda', file: '/p' }] })
    refused(domain(), { diskPassphrases: [{ disk: 'vdb', file: '/p' }] })
  })
})
