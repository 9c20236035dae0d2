export default function Page() {
  return <h1>moored in Next</h1>;
}
