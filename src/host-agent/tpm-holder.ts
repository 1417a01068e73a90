import type { Tpm } from '../tpm/index.js'
import { openTpmIdentity, type TpmIdentity } from './adapters/tpm-identity.js'

/** The TPM of this host with the agent's keys in it: opened on first use, and again after it was lost. */
export interface TpmHolder extends AsyncDisposable {
  identity(): Promise<TpmIdentity>
  /** Gives the TPM up; the next use opens it anew. */
  lose(): Promise<void>
}

export function createTpmHolder(
  openTpm: () => Promise<Tpm>,
  options: Parameters<typeof openTpmIdentity>[1],
): TpmHolder {
  let held: Promise<{ readonly tpm: Tpm; readonly identity: TpmIdentity }> | undefined

  const open = async () => {
    const tpm = await openTpm()
    try {
      return { tpm, identity: await openTpmIdentity(tpm, options) }
    } catch (error) {
      await tpm[Symbol.asyncDispose]()
      throw error
    }
  }
  const lose = async (): Promise<void> => {
    const before = held
    held = undefined
    const opened = await before?.catch(() => undefined)
    await opened?.tpm[Symbol.asyncDispose]()
  }

  return {
    async identity() {
      held ??= open()
      try {
        return (await held).identity
      } catch (error) {
        held = undefined
        throw error
      }
    },
    lose,
    [Symbol.asyncDispose]: lose,
  }
}
