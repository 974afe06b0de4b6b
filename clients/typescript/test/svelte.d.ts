declare module "*.svelte" {
  const component: import("svelte").Component<{ replica: unknown }>;
  export default component;
}
