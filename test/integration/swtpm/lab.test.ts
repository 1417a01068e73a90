import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openTpm } from '../../../native/index.js'
import { toHex } from '../../../src/core/bytes.js'
import { parseCertificates, verifyEkCertificate } from '../../../src/pki/index.js'
import { EK_TEMPLATES, parsePublicArea, publicKeyOf } from '../../../src/tpm/index.js'
import { createLab, type LabTpm, withOtherBootLoader } from '../../../swtpm/index.js'
import { GOOD_BOOT } from '../../helpers/host.js'
import { measuredBoot, measuredPcrs } from '../../helpers/vectors.js'

const STATIC_PCRS = Array.from({ length: 16 }, (_, pcr) => pcr)

async function pcrsOf(
  tpm: LabTpm,
  bank: 'sha256' | 'sha384' = 'sha256',
): Promise<readonly string[]> {
  await using opened = await openTpm({ tcti: tpm.tcti })
  const values = await opened.pcrRead(bank, STATIC_PCRS)
  return STATIC_PCRS.map((pcr) => toHex(values.get(pcr) ?? new Uint8Array()))
}

function isAlive(pid: number | undefined): boolean {
  return pid !== undefined && existsSync(`/proc/${pid}`)
}

describe('a software TPM of the lab', () => {
  test('has endorsement keys that its authority certified, one of each kind', async () => {
    await using lab = await createLab()
    const tpm = await lab.manufacture('a')
    await tpm.start()
    await using opened = await openTpm({ tcti: tpm.tcti })
    for (const { publicArea, certificateNvIndex } of [EK_TEMPLATES.rsa2048, EK_TEMPLATES.eccP384]) {
      const certificate = await opened.nvRead(certificateNvIndex)
      const ek = await opened.createPrimary('endorsement', publicArea)
      const key = publicKeyOf(parsePublicArea(ek.publicArea))
      const { findings, tpm: description } = verifyEkCertificate({
        certificate: certificate ?? new Uint8Array(),
        trust: {
          anchors: parseCertificates(lab.anchorsPem),
          intermediates: [],
          revocation: { lists: [], mode: 'present' },
        },
        ekPublicKeySpki: new Uint8Array(key.export({ type: 'spki', format: 'der' })),
        now: Date.now(),
      })
      expect(findings.filter(({ ok }) => !ok)).toEqual([])
      expect(description?.manufacturer).toBe('id:00001014')
      await opened.flush(ek)
    }
  })

  test.each(['01-uki-sb-off', '04-shim-grub-sb-on-mskeys'])(
    'boots as a real machine did: every PCR is as there (%s)',
    async (variant) => {
      await using lab = await createLab()
      const tpm = await lab.manufacture('a')
      await tpm.boot(measuredBoot(variant, 'binary_bios_measurements'))
      const real = measuredPcrs(variant)
      const expected = STATIC_PCRS.map((pcr) => toHex(real.get(pcr) ?? new Uint8Array()))
      const found = await pcrsOf(tpm)
      // What was extended after the firmware's log ended is in no log: PCR 10 and above 10 by the running system.
      expect(found.slice(0, 10)).toEqual(expected.slice(0, 10))
    },
  )

  test('is another machine with another boot loader, and is mended by a power cycle', async () => {
    await using lab = await createLab()
    const tpm = await lab.manufacture('a')
    await tpm.boot(GOOD_BOOT)
    const good = await pcrsOf(tpm)
    await tpm.boot(withOtherBootLoader(GOOD_BOOT, 'grubx64.efi', Buffer.from('x')))
    const bad = await pcrsOf(tpm)
    expect(bad.flatMap((value, pcr) => (value === good[pcr] ? [] : [pcr]))).toEqual([4])
    await tpm.boot(GOOD_BOOT)
    await tpm.extend(8, Buffer.from('x'))
    expect((await pcrsOf(tpm)).flatMap((value, pcr) => (value === good[pcr] ? [] : [pcr]))).toEqual(
      [8],
    )
    await tpm.boot(GOOD_BOOT)
    expect(await pcrsOf(tpm)).toEqual(good)
  })

  test('keeps its keys over a power cycle, and is not counted as attacked when stopped in order', async () => {
    await using lab = await createLab()
    const tpm = await lab.manufacture('a')
    const ekOf = async () => {
      await using opened = await openTpm({ tcti: tpm.tcti })
      return toHex(
        (await opened.createPrimary('endorsement', EK_TEMPLATES.eccP384.publicArea)).name,
      )
    }
    await tpm.start()
    const before = await ekOf()
    await tpm.stop()
    await tpm.start()
    expect(await ekOf()).toBe(before)
  })

  test('refuses a log without digests for a bank that it has, and what it cannot boot', async () => {
    await using lab = await createLab()
    const tpm = await lab.manufacture('a', { pcrBanks: ['sha256', 'sha512'] })
    const { banks } = (await import('../../../src/eventlog/index.js')).parseEventLog(GOOD_BOOT)
    expect(banks).not.toContain('sha512')
    await expect(tpm.boot(GOOD_BOOT)).rejects.toMatchObject({ code: 'LAB_BANKS' })
    await expect(tpm.boot(new Uint8Array(3))).rejects.toMatchObject({ code: 'DECODE_TRUNCATED' })
    expect(tpm.pid).toBeUndefined()
  })
})

describe('two labs', () => {
  test('side by side do not meet, and leave nothing behind', async () => {
    const [a, b] = await Promise.all([createLab(), createLab()])
    const tpms = await Promise.all([a.manufacture('x'), a.manufacture('y'), b.manufacture('x')])
    await Promise.all(tpms.map((tpm) => tpm.boot(GOOD_BOOT)))
    await tpms[0]?.extend(8, Buffer.from('only here'))
    const [x, y, other] = await Promise.all(tpms.map((tpm) => pcrsOf(tpm)))
    expect(x).not.toEqual(y)
    expect(y).toEqual(other)
    expect(a.anchorsPem).not.toBe(b.anchorsPem)
    expect(statSync(a.directory).mode & 0o777).toBe(0o700)
    const pids = tpms.map(({ pid }) => pid)
    expect(pids.every(isAlive)).toBe(true)
    await Promise.all([a[Symbol.asyncDispose](), b[Symbol.asyncDispose]()])
    expect(pids.some(isAlive)).toBe(false)
    expect([a.directory, b.directory].some((folder) => existsSync(folder))).toBe(false)
  })

  test('a folder that is too deep for a socket is refused in words', async () => {
    await using outer = await createLab()
    await using lab = await createLab({ directory: join(outer.directory, 'x'.repeat(100)) })
    await expect(lab.manufacture('a')).rejects.toMatchObject({ code: 'LAB_PATH' })
    expect(readdirSync(lab.directory)).toEqual(['ca'])
  })

  test('a TPM that was killed is gone, and can be started again', async () => {
    await using lab = await createLab()
    const tpm = await lab.manufacture('a')
    await tpm.boot(GOOD_BOOT)
    const { pid } = tpm
    await tpm.kill()
    expect(isAlive(pid)).toBe(false)
    await tpm.start()
    expect((await pcrsOf(tpm))[4]).toBe('00'.repeat(32))
  })
})
