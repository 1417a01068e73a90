import { spawn } from 'node:child_process'
import { expect, test } from 'vitest'

interface Told {
  readonly ok: boolean
  readonly steps: readonly { readonly title: string; readonly facts: readonly string[] }[]
}

/** Runs the demo as `scripts/demo --json` does after the set-up. */
async function demo(): Promise<{ readonly status: number | null; readonly told: Told }> {
  const child = spawn(process.execPath, ['--import', 'tsx', 'scripts/demo.ts', '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve))
  expect(errors).toBe('')
  return { status, told: JSON.parse(output) as Told }
}

test('a bare machine becomes a site where only an attested host opens a disk', async () => {
  const { status, told } = await demo()
  expect(told.ok).toBe(true)
  expect(status).toBe(0)
  const factsOf = (title: string) =>
    told.steps.find((step) => step.title.includes(title))?.facts.join('\n') ?? ''
  expect(factsOf('quote of host-a is verified')).toContain('affirming')
  expect(factsOf('read back')).toContain('quick brown fox')
  expect(factsOf('another boot loader')).toMatch(/grubx64\.efi: was sha256:.* now sha256:/)
  expect(factsOf('stolen token')).toContain('DPOP_KEY')
  expect(factsOf('extended after')).toContain('TPM_POLICY_FAIL')
  expect(factsOf('audit chains')).toContain('intact')
})
