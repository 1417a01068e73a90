import { type LoadedKey, STORAGE_PRIMARY_TEMPLATE, type Tpm } from '../../tpm/index.js'

/** Runs `work` with the storage primary loaded that the agent's objects are under, and frees its slot afterwards. */
export async function withStoragePrimary<R>(
  tpm: Tpm,
  work: (parent: LoadedKey) => Promise<R>,
): Promise<R> {
  const parent = await tpm.createPrimary('endorsement', STORAGE_PRIMARY_TEMPLATE)
  try {
    return await work(parent)
  } finally {
    await tpm.flush(parent)
  }
}
