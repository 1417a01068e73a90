import { X509Certificate } from 'node:crypto'
import { expect, test } from 'vitest'
import { siteCertifier } from './site-certifier.js'
import { createTestHost, directoriesOf, findKeys, processesNaming } from './support.js'

const VMS = 20
const AT_ONCE = 8

test(`${VMS} virtual TPMs that are made at once are each of their own VM, and at most ${AT_ONCE} are made at a time`, async () => {
  const certifier = await siteCertifier()
  const underWay = new Map<string, number>()
  let most = 0
  await using host = await createTestHost({
    certifier: {
      ...certifier,
      certify: async (request) => {
        const { vmId } = request
        underWay.set(vmId, (underWay.get(vmId) ?? 0) + 1)
        most = Math.max(most, underWay.size)
        const certificate = await certifier.certify(request)
        // both endorsement keys and the platform: then swtpm_setup has all that it asks for
        if (underWay.get(vmId) === 3) underWay.delete(vmId)
        return certificate
      },
    },
  })
  const names = Array.from({ length: VMS }, (_, index) => `vm-${index}`)
  await Promise.all(
    names.map((name) => host.vms.create({ name, provider: 'kp', memoryMib: 64, disks: [] })),
  )
  expect(most).toBeGreaterThan(1)
  expect(most).toBeLessThanOrEqual(AT_ONCE)

  const keys = new Set<string>()
  for (const name of names) {
    const { vmId, vtpmCertificates = [] } = await host.vms.show(name)
    expect(vtpmCertificates).toHaveLength(3)
    for (const pem of vtpmCertificates) {
      const certificate = new X509Certificate(pem)
      expect(certificate.subject).toBe(`CN=${vmId}`)
      expect(certificate.subjectAltName).toContain(`URI:urn:uuid:${vmId}`)
      expect(certificate.subjectAltName?.match(/urn:uuid:/g)).toHaveLength(1)
      keys.add(certificate.publicKey.export({ type: 'spki', format: 'der' }).toString('hex'))
    }
  }
  // the platform certificate is for the RSA key
  expect(keys.size).toBe(2 * VMS)
  expect(processesNaming(host.directory)).toEqual([])
  expect(await findKeys(host.keys.seen, host.directory)).toEqual([])
  expect(await directoriesOf(host)).toHaveLength(VMS)
})
