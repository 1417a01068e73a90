/** Milliseconds of processor that this process spends on a work: unlike a clock, they do not grow with what else runs. */
export async function processorMsOf(work: () => unknown): Promise<number> {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}
